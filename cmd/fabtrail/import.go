package main

import (
	"context"
	"crypto"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"fabtrail.dev/fabtrail/client"
	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/custody/gs1/epcis"
	"fabtrail.dev/fabtrail/internal/cli"
	"fabtrail.dev/fabtrail/internal/problem"
	"fabtrail.dev/fabtrail/ledger/entry"
)

func importCmd() *cobra.Command {
	c := &cobra.Command{Use: "import", Short: "Turn other systems' records into statements",
		Example: "  fabtrail import epcis capture.jsonld --party https://id.gs1.org/417/9506000140001"}
	c.AddCommand(importEPCISCmd())
	return c
}

type importFlags struct {
	remoteFlags
	party, key, secret, out string
	openings                string
	knownOnly               bool
	written                 int // statements written to out
}

func importEPCISCmd() *cobra.Command {
	var f importFlags
	c := &cobra.Command{
		Use:   "epcis FILE",
		Short: "Import an EPCIS 2.0 JSON capture document",
		Long: `Read an EPCIS 2.0 capture document (JSON or JSON-LD), make custody statements of its
events, sign them with your key, and submit them. For every event it says what became
of it: a statement, a sighting, evidence only (why), or refused (line, field, why).

Without --key nothing is signed or sent. Without --server nothing is looked up either:
it shows what would become of the document on an empty ledger where all parties are
enrolled. With --out the signed
statements are written to a folder instead of being submitted. Importing a document
twice is harmless: events are recognised by their EPCIS event hash.

--secret is a file of 32 random bytes that salts manifests; it is made if missing.
Keep it: with the same secret the same document gives the same statements.

What must not stand in the open, such as the exact place of an installation, is
sealed. --openings is the file that its openings are added to; only who has them can
show what was sealed.

Exit codes: 0 every event has an outcome and none was refused; 1 the document is not
valid, or an event or statement was refused; 2 wrong command line; 3 the ledger could
not be reached; 130 interrupted.`,
		Example: `  fabtrail import epcis capture.jsonld --party https://id.gs1.org/417/9506000140001
  fabtrail import epcis capture.jsonld --party https://id.gs1.org/417/9506000140001 --key acme.pem --secret acme.secret \
    --server https://ledger.example --trust ./trust --token acme.token`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			b, err := os.ReadFile(args[0])
			if err != nil {
				return cli.WithCode(cli.Usage, err)
			}
			doc, err := epcis.Parse(b)
			if err != nil {
				return err
			}
			return f.run(c, doc)
		},
	}
	f.add(c, true)
	c.Flags().StringVar(&f.party, "party", "", "your party URI")
	c.Flags().StringVar(&f.key, "key", "", "your private key file; without it nothing is signed")
	c.Flags().StringVar(&f.secret, "secret", "", "file with the secret that salts manifests (default: KEYFILE.secret)")
	c.Flags().StringVar(&f.out, "out", "", "write signed statements and manifests to this folder instead of submitting them")
	c.Flags().StringVar(&f.openings, "openings", "", "file to add the openings of sealed groups to (default: KEYFILE.openings)")
	c.Flags().BoolVar(&f.knownOnly, "known-only", false, "refuse events on units that the ledger does not know")
	_ = c.MarkFlagRequired("party")
	_ = c.MarkFlagDirname("out")
	cli.Nothing(c, "party")
	return c
}

func (f *importFlags) run(c *cobra.Command, doc *epcis.Document) error {
	opt := epcis.Options{Party: f.party, KnownOnly: f.knownOnly}
	var res epcis.Resolver = emptyLedger{}
	if f.server != "" {
		t, err := f.trusted()
		if err != nil {
			return err
		}
		r, err := f.remote()
		if err != nil {
			return err
		}
		opt.Ledger = t.Ledger
		res = &ledgerResolver{ctx: c.Context(), remote: r, verifier: client.Verifier{Remote: r, Trust: t}, seen: map[string]*custody.History{}}
	}
	var err error
	if opt.Secret, err = f.readSecret(); err != nil {
		return err
	}
	plan, err := epcis.Map(doc, opt, res)
	if err != nil {
		return asExit(err)
	}
	var sent []client.Outcome
	if f.key != "" {
		if sent, err = f.deliver(c, plan); err != nil {
			return err
		}
	}
	return f.report(c, doc, plan, sent)
}

// readSecret reads the secret, or makes it.
func (f *importFlags) readSecret() (secret [32]byte, err error) {
	path := f.secret
	if path == "" && f.key != "" {
		path = f.key + ".secret"
	}
	if path == "" {
		_, err := rand.Read(secret[:]) // nothing is kept of such a plan
		return secret, err
	}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		b = make([]byte, 32)
		if _, err := rand.Read(b); err != nil {
			return secret, err
		}
		err = os.WriteFile(path, b, 0o600)
	}
	if err != nil {
		return secret, err
	}
	if len(b) != 32 {
		return secret, fmt.Errorf("%s has %d bytes, want 32 random ones", path, len(b))
	}
	return [32]byte(b), nil
}

// deliver signs what was planned, and submits it or writes it to a folder.
func (f *importFlags) deliver(c *cobra.Command, plan *epcis.Plan) ([]client.Outcome, error) {
	key, err := readKey(f.key)
	if err != nil {
		return nil, err
	}
	envelopes, err := signAll(plan, key)
	if err != nil {
		return nil, err
	}
	if err := f.keepOpenings(plan); err != nil { // before anything is sent: they cannot be had again without the secret
		return nil, err
	}
	if f.out != "" {
		f.written = len(envelopes)
		return nil, writeAll(f.out, plan, envelopes)
	}
	if f.server == "" || len(envelopes) == 0 {
		return nil, nil
	}
	r, err := f.remote()
	if err != nil {
		return nil, err
	}
	t, err := f.trusted()
	if err != nil {
		return nil, err
	}
	for _, p := range plan.Statements {
		if p.Manifest != nil {
			if err := r.PutManifest(c.Context(), p.Manifest.Digest().String(), p.Manifest.Marshal()); err != nil {
				return nil, asExit(err)
			}
		}
	}
	s := client.Submitter{Remote: r, Trust: t}
	sent, err := s.SubmitBatch(c.Context(), envelopes)
	return sent, asExit(err)
}

// keepOpenings adds the openings of sealed groups to a file, as NDJSON:
// {"statement": ID, "opening": {"group", "salt", "value"}}.
func (f *importFlags) keepOpenings(plan *epcis.Plan) error {
	var b []byte
	for _, p := range plan.Statements {
		for _, o := range p.Openings {
			b = fmt.Appendf(b, "{\"statement\":%q,\"opening\":%s}\n", p.ID.String(), o.Marshal())
		}
	}
	if len(b) == 0 {
		return nil
	}
	path := f.openings
	if path == "" {
		path = f.key + ".openings"
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(b)
	return errors.Join(err, file.Sync(), file.Close())
}

func signAll(plan *epcis.Plan, key crypto.Signer) ([][]byte, error) {
	var envelopes [][]byte
	for _, p := range plan.Statements {
		b, err := custody.Sign(p.Payload, key)
		if err != nil {
			return nil, err
		}
		envelopes = append(envelopes, b)
	}
	return envelopes, nil
}

func writeAll(dir string, plan *epcis.Plan, envelopes [][]byte) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for i, p := range plan.Statements {
		name := filepath.Join(dir, fmt.Sprintf("%04d-%s.json", i+1, p.Kind))
		if err := os.WriteFile(name, append(envelopes[i], '\n'), 0o644); err != nil {
			return err
		}
		if p.Manifest == nil {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, p.Manifest.Digest().String()+".manifest"), p.Manifest.Marshal(), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// imported is what became of one event, as JSON.
type imported struct {
	Line       int      `json:"line"`
	Type       string   `json:"type"`
	Step       string   `json:"bizStep,omitempty"`
	Result     string   `json:"result"`
	Why        string   `json:"why,omitempty"`
	Statements []string `json:"statements,omitempty"` // "kind subject: effect"
	Problems   []any    `json:"problems,omitempty"`
	Notes      []string `json:"notes,omitempty"`
}

// ofDocument returns what is wrong with a document apart from its events.
func ofDocument(doc *epcis.Document) []*problem.Problem {
	return slices.DeleteFunc(slices.Clone(doc.Problems), func(p *problem.Problem) bool { _, event := p.Extra["event"]; return event })
}

func (f *importFlags) report(c *cobra.Command, doc *epcis.Document, plan *epcis.Plan, sent []client.Outcome) error {
	effect := map[entry.Hash]string{}
	refusedAtDoor := 0
	for i, o := range sent {
		p := plan.Statements[i]
		if o.Err != nil {
			refusedAtDoor++
			effect[p.ID] = "refused: " + o.Err.Error()
			continue
		}
		effect[p.ID] = fmt.Sprintf("entry %d, %s", o.Recorded.Index, o.Recorded.Effect)
	}
	events := []imported{}
	for _, o := range plan.Outcomes {
		e := imported{Result: string(o.Result), Why: o.Why, Notes: o.Notes}
		if o.Event != nil {
			e.Line, e.Type, e.Step = o.Event.Line, o.Event.Type, o.Event.BizStep
		}
		for _, p := range o.Problems {
			e.Problems = append(e.Problems, p)
		}
		for _, p := range o.Statements {
			s := fmt.Sprintf("%s %s", p.Kind, p.Subject)
			if x := effect[p.ID]; x != "" {
				s += ": " + x
			}
			e.Statements = append(e.Statements, s)
		}
		for _, r := range o.Repeats {
			e.Statements = append(e.Statements, fmt.Sprintf("%s %s: recorded before as %s", r.Kind, r.Subject, r.ID))
		}
		events = append(events, e)
	}
	defects := ofDocument(doc)
	v := map[string]any{"valid": doc.Valid(), "problems": defects, "notes": doc.Notes, "events": events, "counts": plan.Counts, "refusedAtTheDoor": refusedAtDoor, "sent": len(sent), "written": f.written}
	if err := cli.Print(c, v, func(w io.Writer) {
		for _, p := range defects {
			fmt.Fprintf(w, "document: %s\n    %s\n", cli.Colour(w, "red", string(epcis.ResultRefused)), p.Error())
		}
		for _, n := range doc.Notes {
			fmt.Fprintf(w, "note: %s\n", n)
		}
		for i, e := range events {
			printEvent(w, i, e, plan.Outcomes[i])
		}
		fmt.Fprintf(w, "\n%s: %d became statements, %s, %d evidence only, %d refused\n", cli.Count(len(events), "event", "events"),
			plan.Counts[epcis.ResultStatement], cli.Count(plan.Counts[epcis.ResultSighting], "sighting", "sightings"), plan.Counts[epcis.ResultEvidence], plan.Counts[epcis.ResultRefused])
		fmt.Fprint(w, f.unsent())
	}); err != nil {
		return err
	}
	if !doc.Valid() || plan.Counts[epcis.ResultRefused] > 0 || refusedAtDoor > 0 {
		return cli.Quiet(cli.Failed)
	}
	return nil
}

// unsent says why nothing was sent; "" if something was meant to be.
func (f *importFlags) unsent() string {
	switch {
	case f.out != "" && f.key != "":
		return fmt.Sprintf("Nothing was sent: %s written to %s.\n", cli.Count(f.written, "statement was", "statements were"), f.out)
	case f.server == "":
		return "Nothing was sent: no --server was given, so this was planned for an empty ledger.\n"
	case f.key == "":
		return "Nothing was signed or sent: no --key was given.\n"
	}
	return ""
}

func printEvent(w io.Writer, i int, e imported, o *epcis.Outcome) {
	colour := map[epcis.Result]string{epcis.ResultStatement: "green", epcis.ResultSighting: "green", epcis.ResultEvidence: "dim", epcis.ResultRefused: "red"}[o.Result]
	fmt.Fprintf(w, "event %d, line %d: %s: %s", i+1, e.Line, strings.TrimSpace(e.Type+" "+e.Step), cli.Colour(w, colour, e.Result))
	if e.Why != "" {
		fmt.Fprintf(w, " (%s)", e.Why)
	}
	fmt.Fprintln(w)
	for _, s := range e.Statements {
		fmt.Fprintf(w, "    %s\n", s)
	}
	for _, p := range o.Problems {
		fmt.Fprintf(w, "    %s\n", p.Error())
	}
	for _, n := range e.Notes {
		fmt.Fprintf(w, "    note: %s\n", n)
	}
}

// emptyLedger is a ledger without units where everybody is enrolled.
type emptyLedger struct{}

func (emptyLedger) Enrolled(string) (bool, error)                         { return true, nil }
func (emptyLedger) Unit(custody.UnitRef) (*custody.Unit, error)           { return nil, nil }
func (emptyLedger) Load(string) (ref custody.UnitRef, ok bool, err error) { return ref, false, nil }
func (emptyLedger) Members(custody.UnitRef) ([]custody.UnitRef, error)    { return nil, nil }
func (emptyLedger) Parts(string) ([]string, error)                        { return nil, nil }
func (emptyLedger) Recorded(string, string) ([]epcis.Recorded, error)     { return nil, nil }

// ledgerResolver looks units up in a ledger, and believes only what verifies.
type ledgerResolver struct {
	ctx      context.Context
	remote   *client.Remote
	verifier client.Verifier
	seen     map[string]*custody.History // by URI; nil: the ledger proved that it has none
}

func (l *ledgerResolver) history(uri string) (*custody.History, error) {
	if h, ok := l.seen[uri]; ok {
		return h, nil
	}
	r, err := l.verifier.VerifyUnit(l.ctx, uri, "")
	if err != nil {
		return nil, err
	}
	switch {
	case r.Word == custody.NotInLedger:
		l.seen[uri] = r.History
		return r.History, nil
	case r.Word == custody.StatusOnly:
		return nil, fmt.Errorf("%s: the ledger shows its history only to those who take part in it; import with a token of a party that does", uri)
	case r.History == nil:
		var why []string
		for _, x := range r.Checks {
			if !x.OK {
				why = append(why, x.Detail)
			}
		}
		return nil, cli.WithCode(cli.CouldNot, fmt.Errorf("%s could not be verified: %s", uri, strings.Join(why, "; ")))
	}
	l.seen[uri] = r.History
	return r.History, nil
}

// Enrolled implements epcis.Resolver.
func (l *ledgerResolver) Enrolled(party string) (bool, error) {
	return l.remote.Enrolled(l.ctx, party)
}

// Unit implements epcis.Resolver.
func (l *ledgerResolver) Unit(ref custody.UnitRef) (*custody.Unit, error) {
	h, err := l.history(ref.URI)
	if err != nil || h == nil {
		return nil, err
	}
	if ref.IsLoad() {
		return custody.LoadUnit(h.State, ref), nil
	}
	if h.Unit == nil || h.Unit.Phase == custody.PhaseNone {
		return nil, nil
	}
	return h.Unit, nil
}

// Load implements epcis.Resolver.
func (l *ledgerResolver) Load(container string) (ref custody.UnitRef, ok bool, err error) {
	h, err := l.history(container)
	if err != nil || h == nil {
		return ref, false, err
	}
	for _, it := range h.Items {
		if s := it.Signed.Statement; s.Kind == custody.KindPack && s.Subject == container && s.Event.Load == "" {
			ref, ok = custody.UnitRef{URI: container, Load: s.ID}, true
		}
	}
	return ref, ok, nil
}

// Members implements epcis.Resolver: what is in a load is not part of what one
// unit's proofs show.
func (l *ledgerResolver) Members(custody.UnitRef) ([]custody.UnitRef, error) { return nil, nil }

// Parts implements epcis.Resolver.
func (l *ledgerResolver) Parts(parent string) ([]string, error) {
	h, err := l.history(parent)
	if err != nil || h == nil {
		return nil, err
	}
	parts := []string{}
	for _, p := range h.Parts {
		if p.Joined {
			parts = append(parts, p.URI)
		}
	}
	return parts, nil
}

// Recorded implements epcis.Resolver.
func (l *ledgerResolver) Recorded(uri, hashID string) ([]epcis.Recorded, error) {
	h, err := l.history(uri)
	if err != nil || h == nil || hashID == "" {
		return nil, err
	}
	var out []epcis.Recorded
	for _, it := range h.Items {
		s := it.Signed.Statement
		if s.Event == nil || s.Event.EPCIS == nil || s.Event.EPCIS.HashID != hashID {
			continue
		}
		load, _ := entry.ParseHash(s.Event.Load) // zero without one
		out = append(out, epcis.Recorded{ID: s.ID, Kind: s.Kind, Subject: s.Subject, Load: load, Actor: s.Event.Actor, Voided: voided(h, s.ID)})
	}
	return out, nil
}

func voided(h *custody.History, id entry.Hash) bool {
	for _, it := range h.Items {
		if b, ok := it.Signed.Statement.Body.(*custody.Void); ok && b.Voids.SHA256 == id.String() {
			return true
		}
	}
	return false
}
