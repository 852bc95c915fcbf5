package main

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"fabtrail.dev/fabtrail/client"
	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/custody/gs1"
	"fabtrail.dev/fabtrail/internal/cli"
	"fabtrail.dev/fabtrail/internal/problem"
	"fabtrail.dev/fabtrail/ledger/entry"
)

type signFlags struct {
	remoteFlags
	keys                 []string
	actor, role, body    string
	after, load, at, out string
	where                custody.Where
	deviceKey            string
	counter              uint64
	pedigree             bool
	label                string
}

func signCmd() *cobra.Command {
	var f signFlags
	kinds := make([]string, 0, 32)
	for _, k := range custody.Kinds() {
		kinds = append(kinds, string(k))
	}
	c := &cobra.Command{
		Use:   "sign KIND SUBJECT",
		Short: "Sign a statement",
		Long: `Sign one statement and write it as a DSSE envelope. Nothing is sent; 'fabtrail
submit' does that.

KIND is one of: ` + strings.Join(kinds, ", ") + `.
SUBJECT is what the statement is about: any code of a unit, container, lot, product
or party. What the kind itself says is given as JSON with --body, as docs/formats.md
lists it; "from" of a release and "accepts" of an accept are filled in.

A statement of custody follows the unit's latest one: name the file of that one, or
its ID and seq, with --after; without it the statement is the unit's first.

The envelope goes to --out. On standard output it can be piped to 'fabtrail submit -';
with --json it is there the member "envelope", beside its ID and label.`,
		Example: `  fabtrail sign commission https://id.gs1.org/01/09506000134352/21/SN-1 --trust ./trust \
    --key acme.pem --actor https://id.gs1.org/417/9506000140001 --role maker \
    --body '{"kind":"device","lot":"L1"}' --pedigree --label label.txt --out commission.json
  fabtrail sign release https://id.gs1.org/01/09506000134352/21/SN-1 --trust ./trust --after commission.json \
    --key acme.pem --actor https://id.gs1.org/417/9506000140001 --role maker \
    --body '{"to":"https://id.gs1.org/417/9506000150000"}' --out release.json`,
		Args: cobra.ExactArgs(2),
		ValidArgsFunction: func(_ *cobra.Command, args []string, begun string) (fit []string, _ cobra.ShellCompDirective) {
			for _, k := range kinds {
				if len(args) == 0 && strings.HasPrefix(k, begun) {
					fit = append(fit, k)
				}
			}
			return fit, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(c *cobra.Command, args []string) error {
			t, err := f.trusted()
			if err != nil {
				return err
			}
			return f.sign(c, t, custody.Kind(args[0]), args[1])
		},
	}
	fl := c.Flags()
	fl.StringVar(&f.trust, "trust", os.Getenv("FABTRAIL_TRUST"), "trust folder: names the ledger that the statement is for")
	fl.StringArrayVar(&f.keys, "key", nil, "private key file; repeatable where several must sign")
	fl.StringVar(&f.actor, "actor", "", "party URI of who acts")
	fl.StringVar(&f.role, "role", "", "the role in which it acts, such as maker or carrier")
	fl.StringVar(&f.body, "body", "{}", "the kind's own fields as JSON, or @FILE")
	fl.StringVar(&f.after, "after", "", "the unit's latest statement: its file, or ID,SEQ")
	fl.StringVar(&f.load, "load", "", "where the unit is a load: hex ID of the pack that opened it")
	fl.StringVar(&f.at, "at", "", "when it happened (RFC 3339, UTC); now unless given")
	fl.StringVar(&f.where.Site, "site", "", "where: one of the actor's sites (GLN Digital Link)")
	fl.StringVar(&f.where.Country, "country", "", "where: ISO 3166 country")
	fl.StringVar(&f.where.Locode, "locode", "", "where: UN/LOCODE")
	fl.StringVar(&f.where.Geo, "geo", "", "where: geo:lat,lon;u=metres")
	fl.StringVar(&f.deviceKey, "device-key", "", "the device's own private key, to prove possession")
	fl.Uint64Var(&f.counter, "counter", 0, "the device's counter, with --device-key")
	fl.BoolVar(&f.pedigree, "pedigree", false, "commission of one unit: make a pedigree key, and print the code for its label")
	fl.StringVar(&f.label, "label", "", "with --pedigree: file to write that code to, for whatever prints labels")
	fl.StringVar(&f.out, "out", "-", "file to write; - is standard output")
	_ = c.MarkFlagRequired("key")
	cli.Words(c, "role", custody.Roles...)
	cli.Nothing(c, "actor", "load", "at", "site", "country", "locode", "geo", "counter")
	_ = c.MarkFlagDirname("trust")
	return c
}

func (f *signFlags) sign(c *cobra.Command, t *client.Trust, kind custody.Kind, subject string) error {
	info, ok := kind.Info()
	if !ok {
		return cli.Usagef("there is no kind %q; see 'fabtrail sign --help'", kind)
	}
	if id, err := gs1.Scan(subject); err == nil {
		subject = id.ID.URI()
	}
	body, err := f.readBody(kind)
	if err != nil {
		return err
	}
	var label string
	if f.pedigree {
		if label, err = addPedigree(body, subject); err != nil {
			return err
		}
	}
	var ev *custody.Event
	if info.Event {
		if f.actor == "" {
			return cli.Usagef("who acts? a %s needs --actor, the URI of the party whose key signs", kind)
		}
		if ev, err = f.event(info); err != nil {
			return err
		}
		fill(body, ev)
		if f.deviceKey != "" {
			key, err := readKey(f.deviceKey)
			if err != nil {
				return err
			}
			if err := ev.SignDevice(key, kind, subject, t.Ledger, f.counter); err != nil {
				return err
			}
		}
	}
	payload, err := custody.NewPayload(kind, subject, t.Ledger, ev, body)
	if p := problem.As(err); p != nil && p.Hint == "" && strings.HasPrefix(p.Field, "/predicate/") {
		p.WithHint("what a %s says of its own is given with --body; docs/formats.md lists it", kind)
	}
	if err != nil {
		return err
	}
	return f.write(c, payload, label)
}

func (f *signFlags) write(c *cobra.Command, payload []byte, label string) error {
	keys, err := readKeys(f.keys)
	if err != nil {
		return err
	}
	envelope, err := custody.Sign(payload, keys...)
	if err != nil {
		return err
	}
	id := entry.StatementID(payload)
	if f.label != "" {
		if label == "" {
			return cli.Usagef("--label is for the code that --pedigree makes")
		}
		if err := os.WriteFile(f.label, []byte(label+"\n"), 0o600); err != nil {
			return err
		}
	}
	if f.out == "-" && cli.JSON(c) {
		v := map[string]any{"id": id.String(), "envelope": jsontext.Value(envelope)}
		if label != "" {
			v["label"] = label
		}
		b, err := json.Marshal(v, json.Deterministic(true))
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "%s\n", b)
		return err
	}
	if f.out == "-" {
		_, err := fmt.Fprintf(c.OutOrStdout(), "%s\n", envelope)
		if label != "" {
			fmt.Fprintln(c.ErrOrStderr(), "label:", label)
		}
		return err
	}
	if err := os.WriteFile(f.out, append(envelope, '\n'), 0o644); err != nil {
		return err
	}
	v := map[string]string{"id": id.String(), "file": f.out}
	if label != "" {
		v["label"] = label
	}
	return cli.Print(c, v, func(w io.Writer) {
		fmt.Fprintf(w, "signed %s\nid     %s\n", f.out, id)
		if label != "" {
			fmt.Fprintf(w, "label  %s\n", label)
		}
	})
}

func (f *signFlags) readBody(kind custody.Kind) (any, error) {
	text := []byte(f.body)
	if name, ok := strings.CutPrefix(f.body, "@"); ok {
		var err error
		if text, err = os.ReadFile(name); err != nil {
			return nil, err
		}
	}
	body, err := custody.ParseBody(kind, text)
	if err != nil {
		return nil, cli.Usagef("--body of a %s: %w", kind, err)
	}
	return body, nil
}

func (f *signFlags) event(info custody.KindInfo) (*custody.Event, error) {
	at := time.Now()
	if f.at != "" {
		var err error
		if at, err = custody.ParseTime(f.at); err != nil {
			return nil, cli.WithCode(cli.Usage, err)
		}
	}
	ev := &custody.Event{
		EventID: custody.NewEventID(at, nil), OccurredAt: custody.FormatTime(at.Truncate(time.Second)),
		Actor: f.actor, Role: f.role, Load: f.load, Chain: custody.Unchained(),
	}
	if f.where != (custody.Where{}) {
		ev.Where = &f.where
	}
	if !info.Chained {
		return ev, nil
	}
	ev.Chain = custody.First()
	if f.after == "" {
		return ev, nil
	}
	id, seq, err := latest(f.after)
	if err != nil {
		return nil, err
	}
	ev.Chain = custody.Next(seq, id)
	return ev, nil
}

// latest reads "ID,SEQ", or a file with the signed statement.
func latest(s string) (entry.Hash, int64, error) {
	if id, seq, ok := strings.Cut(s, ","); ok {
		h, err := entry.ParseHash(id)
		n, nerr := strconv.ParseInt(seq, 10, 64)
		if err != nil || nerr != nil {
			return h, 0, cli.Usagef("--after %q: want FILE, or ID,SEQ", s)
		}
		return h, n, nil
	}
	b, err := os.ReadFile(s)
	if err != nil {
		return entry.Hash{}, 0, err
	}
	d, err := custody.ParseDSSE(bytes.TrimSpace(b))
	if err != nil {
		return entry.Hash{}, 0, fmt.Errorf("%s: %w", s, err)
	}
	st, err := custody.Parse(d.Payload)
	if err != nil {
		return entry.Hash{}, 0, fmt.Errorf("%s: %w", s, err)
	}
	if st.Event == nil || st.Event.Chain == nil || st.Event.Chain.Seq < 0 {
		return entry.Hash{}, 0, cli.Usagef("%s is a %s, which is not part of a unit's chain", s, st.Kind)
	}
	return st.ID, st.Event.Chain.Seq, nil
}

// fill puts in what the common fields already say.
func fill(body any, ev *custody.Event) {
	switch b := body.(type) {
	case *custody.Release:
		if b.From == "" {
			b.From = ev.Actor
		}
	case *custody.Accept:
		if b.Accepts.SHA256 == "" && ev.Chain.Prev != nil {
			b.Accepts = *ev.Chain.Prev
		}
	case *custody.Refuse:
		if b.Refuses.SHA256 == "" && ev.Chain.Prev != nil {
			b.Refuses = *ev.Chain.Prev
		}
	}
}

// addPedigree makes a pedigree key, puts its digest into a commission, and
// returns the code to print on the unit.
func addPedigree(body any, subject string) (label string, err error) {
	b, ok := body.(*custody.Commission)
	if !ok || b.Contents != nil {
		return "", cli.Usagef("--pedigree is for the commission of one unit")
	}
	key := make([]byte, custody.PedigreeKeySize)
	if _, err := rand.Read(key); err != nil {
		return "", err
	}
	digest, err := custody.PedigreeDigest(key)
	if err != nil {
		return "", err
	}
	b.Pedigree = digest.String()
	return subject + "?k=" + gs1.FormatPedigreeKey(key), nil
}
