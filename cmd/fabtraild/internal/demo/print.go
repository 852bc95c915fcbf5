package demo

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/internal/cli"
)

var colours = map[string]string{
	string(custody.Verified): "green", string(custody.VerifiedNote): "green",
	string(custody.CheckBeforeUse): "yellow", string(custody.StatusOnly): "yellow",
	string(custody.DoNotInstall): "red", string(custody.NotInLedger): "red", string(custody.CouldNotVerify): "red",
}

// Print tells people what came out, and what to try next.
func (d *Demo) Print(w io.Writer) {
	r := d.Result
	fmt.Fprintf(w, "%s\n\n", cli.Colour(w, "bold", "From the chip fab to the installer"))
	fmt.Fprintf(w, "  %d devices of %d parts, %d parties, %d statements in %.1f s\n", len(d.devices), r.Units-len(d.devices), len(cast), r.Statements, r.Seconds)
	fmt.Fprintf(w, "  log         %s, %d entries\n", r.Origin, r.Size)
	fmt.Fprintf(w, "  checkpoint  cosigned by %s\n", strings.Join(r.Witnesses, ", "))
	fmt.Fprintf(w, "              (%s recomputes the index before it signs)\n", witnessNames[len(witnessNames)-1])
	for _, line := range strings.Split(strings.TrimSpace(r.Checkpoint), "\n")[:3] {
		fmt.Fprintf(w, "              %s\n", cli.Colour(w, "dim", line))
	}
	d.printVerdicts(w)
	d.printFindings(w)
	d.printRefusals(w)
	d.printLabels(w)
}

func (d *Demo) printVerdicts(w io.Writer) {
	fmt.Fprintf(w, "\n%s  what a customer sees who scans these units\n\n", cli.Colour(w, "bold", "Verdicts"))
	for _, v := range d.Result.Verdicts {
		why := strings.TrimSpace(pad(v.label.Name, 20) + strings.Join(v.Reasons, ", "))
		fmt.Fprintf(w, "  %s  %s  %s\n", cli.Colour(w, colours[v.Verdict], pad(v.Verdict, 16)), pad(serialOf(v.URI), 9), why)
	}
}

func (d *Demo) printFindings(w io.Writer) {
	fmt.Fprintf(w, "\n%s  what the ledger's rules conclude, and whom they name\n\n", cli.Colour(w, "bold", "Findings"))
	for _, f := range d.Result.Findings {
		fmt.Fprintf(w, "  %s  %s  %s  entries %s\n", cli.Colour(w, "yellow", pad(f.Rule, 16)), pad(serialOf(f.Unit), 20), pad(nameOf(f.Actor), 26), join(f.Evidence))
	}
}

func (d *Demo) printRefusals(w io.Writer) {
	fmt.Fprintf(w, "\n%s  what the ledger did not let in\n\n", cli.Colour(w, "bold", "Refused at the door"))
	for _, r := range d.seen.Refusals {
		fmt.Fprintf(w, "  %s  %s  %s of %s\n", cli.Colour(w, "yellow", pad(r.Type, 16)), pad(nameOf(r.Actor), 26), r.Kind, serialOf(r.Unit))
	}
}

func (d *Demo) printLabels(w io.Writer) {
	fmt.Fprintf(w, "\n%s  seed %d, as it was labelled beforehand\n\n", cli.Colour(w, "bold", "What happened"), d.cfg.Seed)
	for _, l := range d.labels.Labels {
		fmt.Fprintf(w, "  %s  %s\n", pad(l.Name, 18), l.Story)
	}
	fmt.Fprintln(w)
	if len(d.Result.Diff) == 0 {
		fmt.Fprintf(w, "%s verdicts, findings and refusals are those of the labels: no more, and no fewer.\n", cli.Colour(w, "green", "As it should be:"))
		return
	}
	fmt.Fprintln(w, cli.Colour(w, "red", "Not as it was labelled:"))
	for _, line := range d.Result.Diff {
		fmt.Fprintf(w, "  - %s\n", line)
	}
}

// PrintNext says what to try while the demo serves, or, when it ended and left a
// folder, afterwards.
func (d *Demo) PrintNext(w io.Writer, serving bool) {
	dir := string(d.folder)
	person, server := programs()
	trust := quote(d.folder.Trust())
	show := func(what, command string) { fmt.Fprintf(w, "  %s\n    %s\n", cli.Colour(w, "dim", "# "+what), command) }
	fmt.Fprintf(w, "\n%s\n\n", cli.Colour(w, "bold", "Try next"))
	if !serving && d.cfg.Data == "" {
		show("keep the ledger, and look into it", server+" demo --data ./demo")
		return
	}
	if serving {
		code := func(word custody.Word) string {
			for _, v := range d.Result.Verdicts {
				if v.Verdict == string(word) {
					return quote(d.code(v.URI))
				}
			}
			return quote(d.code(d.devices[0].uri))
		}
		at := fmt.Sprintf("--server %s --trust %s", d.url, trust)
		show("a good unit: scan its code, with every check listed", fmt.Sprintf("%s verify %s %s", person, code(custody.Verified), at))
		show("a bad one", fmt.Sprintf("%s verify %s %s", person, code(custody.DoNotInstall), at))
		show("more codes, by label", "less "+quote(d.path("codes.txt")))
		show("who is who: parties with their URIs, keys and tokens", "less "+quote(d.path("parties.txt")))
		show("replay the whole log and compare", fmt.Sprintf("%s audit %s --token %s", person, at, quote(d.path("tokens", "auditor.token"))))
		show("what anybody may read", fmt.Sprintf("curl %s/checkpoint", d.url))
	}
	if d.cfg.Data != "" {
		show("serve this folder again, later", fmt.Sprintf("%s serve --data %s", server, quote(dir)))
		show("with its witnesses, so that new statements are cosigned", fmt.Sprintf("FABTRAILD=%s sh %s", quote(server), quote(d.path("serve.sh"))))
	}
	if serving {
		fmt.Fprintf(w, "\nServing at %s", d.url)
		if d.cfg.Data == "" {
			fmt.Fprintf(w, "; the folder %s goes when this ends (--data DIR keeps it)", dir)
		}
		fmt.Fprintln(w, ". Ctrl-C ends.")
	}
}

// programs are the commands as somebody would type them who has started this one
// as it was: by go run, or built.
func programs() (person, server string) {
	if strings.Contains(os.Args[0], "go-build") {
		return "go run ./cmd/fabtrail", "go run ./cmd/fabtraild"
	}
	if dir, ok := strings.CutSuffix(os.Args[0], "fabtraild"); ok {
		return dir + "fabtrail", os.Args[0]
	}
	return "fabtrail", "fabtraild"
}

// serialOf is the last part of a URI.
func serialOf(uri string) string { return uri[strings.LastIndexAny(uri, "/:")+1:] }

func nameOf(uri string) string {
	if i := slices.IndexFunc(cast, func(r role) bool { return partyURI(r.slug) == uri }); i >= 0 {
		return cast[i].name
	}
	return uri
}

func join(ns []uint64) string { return strings.Trim(fmt.Sprint(ns), "[]") }

func pad(s string, n int) string {
	return s + strings.Repeat(" ", max(n-utf8.RuneCountInString(s), 0))
}
