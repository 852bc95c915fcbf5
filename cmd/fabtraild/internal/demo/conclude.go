package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"fabtrail.dev/fabtrail/client"
	"fabtrail.dev/fabtrail/cmd/fabtraild/internal/demo/labels"
	"fabtrail.dev/fabtrail/custody/rules"
)

// Verdict is what verifying one unit gave.
type Verdict struct {
	URI     string   `json:"uri"`
	Verdict string   `json:"verdict"`
	Reasons []string `json:"reasons"` // codes of the checks that failed, heaviest first

	label *labels.Label
}

// Finding is one finding that the ledger has published.
type Finding struct {
	Rule     string   `json:"rule"`
	Tier     string   `json:"tier"`
	Unit     string   `json:"unit"`
	Actor    string   `json:"actor"` // accused
	Evidence []uint64 `json:"evidence"`

	words string
}

// Result is what the demo shows at its end.
type Result struct {
	Origin     string    `json:"origin"`
	Size       uint64    `json:"size"`
	Checkpoint string    `json:"checkpoint"` // the cosigned note
	Witnesses  []string  `json:"witnesses"`  // whose cosignatures it has
	Units      int       `json:"units"`
	Statements int64     `json:"statements"`
	Verdicts   []Verdict `json:"verdicts"`
	Findings   []Finding `json:"findings"`
	Seconds    float64   `json:"seconds"`

	// Diff says where this differs from the labels; none is as it should be.
	Diff []string `json:"diff,omitempty"`
}

// conclude looks at the ledger from outside and compares with the labels.
func (d *demo) conclude() (Result, error) {
	r := Result{Origin: Origin, Units: len(d.chips) + len(d.radios) + len(d.sensors) + len(d.devices), Statements: d.count.Load()}
	public, err := client.NewRemote(d.url, client.Options{})
	if err != nil {
		return r, err
	}
	note, err := public.Checkpoint(d.ctx)
	if err != nil {
		return r, err
	}
	seen, err := d.trust.VerifyNote(note)
	if err != nil {
		return r, err
	}
	r.Size, r.Checkpoint = seen.Size, string(note)
	for _, c := range seen.Cosigs {
		r.Witnesses = append(r.Witnesses, c.Name)
	}
	if r.Verdicts, err = d.verify(public); err != nil {
		return r, err
	}
	if r.Findings, err = d.findings(); err != nil {
		return r, err
	}
	for _, f := range r.Findings {
		d.seen.Findings = append(d.seen.Findings, labels.Finding{Rule: f.Rule, Unit: f.Unit, Accused: f.Actor})
	}
	r.Diff = d.labels.Diff(d.seen)
	r.Seconds = float64(time.Since(d.start).Milliseconds()) / 1000
	return r, nil
}

// memory remembers one checkpoint.
type memory map[string][]byte

func (m memory) Load(origin string) ([]byte, error)     { return m[origin], nil }
func (m memory) Store(origin string, note []byte) error { m[origin] = note; return nil }

// verify judges every unit that a label asks about, as a customer who scans its
// code: with the trust folder, and no token.
func (d *demo) verify(public *client.Remote) ([]Verdict, error) {
	v := client.Verifier{Remote: public, Trust: d.trust, Memory: memory{}}
	d.seen.Verdicts = map[labels.Verdict]labels.SeenVerdict{}
	var out []Verdict
	for i := range d.labels.Labels {
		l := &d.labels.Labels[i]
		for _, want := range l.Verdicts {
			code := d.code(want.Unit)
			if want.Public {
				code = want.Unit
			}
			report, err := v.VerifyUnit(d.ctx, code, "")
			if err != nil {
				return nil, fmt.Errorf("verifying %s: %w", want.Unit, err)
			}
			failed := report.Failed()
			if failed == nil {
				failed = []string{}
			}
			out = append(out, Verdict{URI: want.Unit, Verdict: string(report.Word), Reasons: failed, label: l})
			d.seen.Verdicts[want] = labels.SeenVerdict{Word: string(report.Word), Reasons: failed}
		}
	}
	return out, nil
}

// wireFinding is one of GET /v1/findings.
type wireFinding struct {
	Rule    string `json:"rule"`
	Tier    string `json:"tier"`
	Phase   string `json:"phase"`
	Accused string `json:"accused"`
	Units   []struct {
		URI string `json:"uri"`
	} `json:"units"`
	Evidence []uint64 `json:"evidence"`
	ID       string   `json:"findingId"`
	Words    string   `json:"words"`
}

// findings reads all findings with the auditor's token; withdrawn ones are gone.
func (d *demo) findings() ([]Finding, error) {
	token, err := readLine(d.path("tokens", "auditor.token"))
	if err != nil {
		return nil, err
	}
	var all []wireFinding
	for since := uint64(0); ; {
		var page struct {
			Findings []wireFinding `json:"findings"`
			Next     uint64        `json:"next"`
		}
		if err := getJSON(d.ctx, fmt.Sprintf("%s/v1/findings?since=%d", d.url, since), token, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Findings...)
		if len(page.Findings) == 0 || page.Next <= since {
			break
		}
		since = page.Next
	}
	phase := map[string]string{}
	for _, f := range all {
		phase[f.ID] = f.Phase
	}
	out := []Finding{}
	for _, f := range all {
		if len(f.Units) == 0 || phase[f.ID] == rules.Withdrawn || phase[f.ID] != f.Phase {
			continue
		}
		out = append(out, Finding{Rule: f.Rule, Tier: f.Tier, Unit: f.Units[0].URI, Actor: f.Accused, Evidence: f.Evidence, words: f.Words})
	}
	return out, nil
}

func getJSON(ctx context.Context, url, token string, v any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s: %s", url, resp.Status, b)
	}
	return json.Unmarshal(b, v)
}
