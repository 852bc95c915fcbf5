package client

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/custody/answer/answertest"
	"fabtrail.dev/fabtrail/internal/problem"
	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// holdOf signs a hold by maker on a unit of tale.
func holdOf(t *testing.T, w *answertest.World, serial, reason string) []byte {
	t.Helper()
	maker := w.Parties["maker"]
	payload, err := custody.NewPayload(custody.KindHold, w.Unit(serial), w.Ledger, w.Event(maker, custody.Unchained()), &custody.Hold{Reason: reason})
	if err != nil {
		t.Fatal(err)
	}
	b, err := custody.Sign(payload, maker.Key)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func submitter(t *testing.T) (*fake, *Submitter) {
	t.Helper()
	w := tale(t)
	f := newFake(t, w)
	return f, &Submitter{Remote: f.remote(t, Options{}), Trust: trustOf(t, w.Log)}
}

func TestSubmit(t *testing.T) {
	f, s := submitter(t)
	dsse := holdOf(t, f.World, "LIFTED", "suspect")
	r, err := s.Submit(t.Context(), dsse)
	if err != nil {
		t.Fatal(err)
	}
	if r.Repeat || r.Proof == nil || r.Proof.Index != r.Index || r.Proof.Class != entry.Restricted || r.Effect != "applied" {
		t.Errorf("first: %+v", r)
	}
	again, err := s.Submit(t.Context(), dsse)
	if err != nil || !again.Repeat || again.Index != r.Index || again.ID != r.ID {
		t.Errorf("again: %+v, %v", again, err)
	}
	f.late = 3
	r, err = s.Submit(t.Context(), holdOf(t, f.World, "SMEARED", "suspect"))
	if err != nil || r.Proof == nil || f.calls["GET /v1/statements/{id}"] != 3 {
		t.Errorf("late: %+v, %v; asked %d times", r, err, f.calls["GET /v1/statements/{id}"])
	}
	f.late = 1 << 20
	if _, err = s.Submit(t.Context(), holdOf(t, f.World, "SMEARED", "stolen")); err == nil || !strings.Contains(err.Error(), "not published yet") {
		t.Errorf("never published: %v", err)
	}
}

func TestSubmitRefused(t *testing.T) {
	f, s := submitter(t)
	payload, err := custody.NewPayload(custody.KindHold, f.Unit("LIFTED"), f.Ledger, f.Event(f.Parties["maker"], custody.Unchained()), &custody.Hold{Reason: "suspect"})
	if err != nil {
		t.Fatal(err)
	}
	dsse, err := custody.Sign(payload, answertest.Key("nobody's"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Submit(t.Context(), dsse)
	if p := problem.As(err); p == nil || p.Type != "unknown_key" {
		t.Errorf("got %v", err)
	}
	before := f.calls["POST /v1/statements"]
	if _, err := s.Submit(t.Context(), []byte("{}")); err == nil || f.calls["POST /v1/statements"] != before {
		t.Errorf("nonsense was sent: %v", err)
	}
}

// A ledger that lies about what it did with a statement is found out.
func TestReceiptsAreChecked(t *testing.T) {
	other := func(f *fake) *Appended {
		var out Appended
		for _, have := range f.records {
			if have.Index < uint64(len(f.Entries)-3) { // not the one at hand
				out = *have
			}
		}
		f.publish(&out)
		return &out
	}
	for name, mangle := range map[string]func(f *fake, a *Appended){
		"another ID":       func(f *fake, a *Appended) { a.ID = strings.Repeat("0", 64) },
		"another index":    func(f *fake, a *Appended) { a.Index++ },
		"another time":     func(f *fake, a *Appended) { a.Time++ },
		"no receipt":       func(f *fake, a *Appended) { a.Receipt = "" },
		"altered receipt":  func(f *fake, a *Appended) { a.Receipt = strings.Replace(a.Receipt, "\nindex ", "\nindex 1", 1) },
		"altered envelope": func(f *fake, a *Appended) { a.Envelope[len(a.Envelope)-1] ^= 1 },
		"other's envelope": func(f *fake, a *Appended) { a.Envelope = other(f).Envelope },
		"other's receipt":  func(f *fake, a *Appended) { a.Receipt = other(f).Receipt },
		"no quorum": func(f *fake, a *Appended) {
			head, note, _ := strings.Cut(a.Receipt, "\n\n")
			lines := strings.SplitAfter(note, "\n")
			a.Receipt = head + "\n\n" + strings.Join(lines[:5], "")
		},
	} {
		t.Run(name, func(t *testing.T) {
			f, s := submitter(t)
			if _, err := s.Submit(t.Context(), holdOf(t, f.World, "SMEARED", "suspect")); err != nil {
				t.Fatal(err)
			}
			f.mangle = func(a *Appended) {
				a.Envelope = slices.Clone(a.Envelope)
				mangle(f, a)
			}
			if r, err := s.Submit(t.Context(), holdOf(t, f.World, "LIFTED", "stolen")); err == nil {
				t.Errorf("believed: %+v", r)
			}
		})
	}
}

// The class of a leaf is part of the receipt: a public statement that was logged
// as restricted is not what its signer was promised.
func TestReceiptOfTheWrongClass(t *testing.T) {
	f, s := submitter(t)
	r, err := s.Submit(t.Context(), holdOf(t, f.World, "LIFTED", "suspect"))
	if err != nil {
		t.Fatal(err)
	}
	env, err := entry.ParseEnvelope(r.Envelope)
	if err != nil {
		t.Fatal(err)
	}
	n := f.Add(entry.Entry{Class: entry.Public, Envelope: r.Envelope}, entry.Hash{})
	f.Publish()
	a := &Appended{Index: n}
	f.publish(a)
	if _, err := s.Trust.VerifyReceipt([]byte(a.Receipt), r.Envelope, env.Payload); err == nil || !strings.Contains(err.Error(), "logged as public") {
		t.Errorf("got %v", err)
	}
}

func TestSubmitBatch(t *testing.T) {
	f, s := submitter(t)
	var dsses [][]byte
	for _, serial := range []string{"GOOD", "OPEN", "LIFTED", "SMEARED", "VOIDED", "FIRMWARE"} {
		dsses = append(dsses, holdOf(t, f.World, serial, "suspect"))
	}
	dsses[1] = []byte(`{"payloadType":"x"}`)
	payload, err := custody.NewPayload(custody.KindHold, f.Unit("LIFTED"), f.Ledger, f.Event(f.Parties["maker"], custody.Unchained()), &custody.Hold{Reason: "suspect"})
	if err != nil {
		t.Fatal(err)
	}
	if dsses[2], err = custody.Sign(payload, answertest.Key("nobody's")); err != nil {
		t.Fatal(err)
	}
	check := func(out []Outcome, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		for i, o := range out {
			switch i {
			case 1:
				if o.Err == nil {
					t.Error("line 2 is no envelope")
				}
			case 2:
				if p := problem.As(o.Err); p == nil || p.Type != "unknown_key" {
					t.Errorf("line 3: %v", o.Err)
				}
			default:
				if o.Err != nil || o.Recorded == nil || o.Recorded.Proof == nil {
					t.Errorf("line %d: %+v", i+1, o)
				}
			}
		}
	}
	// The first call breaks before anything is answered, the second is overloaded.
	n := 0
	f.fail = func(w http.ResponseWriter) bool {
		n++
		switch n {
		case 1:
			panic(http.ErrAbortHandler)
		case 2:
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		}
		return false
	}
	check(s.SubmitBatch(t.Context(), dsses))
	size := len(f.Entries)
	out, err := s.SubmitBatch(t.Context(), dsses)
	check(out, err)
	if !out[0].Recorded.Repeat || len(f.Entries) != size {
		t.Errorf("a repeated batch added %d entries", len(f.Entries)-size)
	}
	f.fail = func(w http.ResponseWriter) bool { w.WriteHeader(http.StatusServiceUnavailable); return true }
	out, err = s.SubmitBatch(t.Context(), [][]byte{holdOf(t, f.World, "HELD", "suspect")})
	var status *StatusError
	if !errors.As(err, &status) || out[0].Err == nil {
		t.Errorf("for ever overloaded: %v, %+v", err, out[0])
	}
}

func TestPutManifest(t *testing.T) {
	f, s := submitter(t)
	m, err := custody.NewManifest([]custody.Member{{URI: f.Unit("X"), Salt: entry.Hash{1}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Remote.PutManifest(t.Context(), m.Digest().String(), m.Marshal()); err != nil {
		t.Fatal(err)
	}
	if string(f.Sums[m.Digest()]) != string(m.Marshal()) {
		t.Error("the ledger has other bytes")
	}
}

func TestFetchTrust(t *testing.T) {
	f, s := submitter(t)
	files, prints, err := s.Remote.FetchTrust(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	trust, err := ParseTrust(files)
	if err != nil || trust.Ledger != f.Ledger || len(trust.Index) != 1 {
		t.Errorf("%+v, %v", trust, err)
	}
	if len(prints) != len(TrustFiles) || prints[2].Hex != f.Ledger.String() {
		t.Errorf("fingerprints: %+v", prints)
	}
}

func TestParseTrustRefuses(t *testing.T) {
	w := answertest.NewWorld(answertest.NewLog(t))
	other := answertest.NewLog(t)
	for name, change := range map[string]func(map[string][]byte){
		"no log key":      func(m map[string][]byte) { delete(m, LogFile) },
		"two log keys":    func(m map[string][]byte) { m[LogFile] = append(m[LogFile], m[LogFile]...) },
		"a witness's key": func(m map[string][]byte) { m[LogFile] = []byte(w.IndexKey.VKey().String()) },
		"no policy":       func(m map[string][]byte) { delete(m, PolicyFile) },
		"a bad policy":    func(m map[string][]byte) { m[PolicyFile] = []byte("group g 0\nquorum g\n") },
		"policy of another": func(m map[string][]byte) {
			m[PolicyFile] = []byte("log " + other.Witnesses[0].VKey().String() + "\nquorum none\n")
		},
		"no charter":          func(m map[string][]byte) { delete(m, CharterFile) },
		"a log key for index": func(m map[string][]byte) { m[IndexFile] = m[LogFile] },
		"nonsense for index":  func(m map[string][]byte) { m[IndexFile] = []byte("x") },
		"one index key twice": func(m map[string][]byte) { m[IndexFile] = append(m[IndexFile], m[IndexFile]...) },
		"one index key under two names": func(m map[string][]byte) {
			k := w.IndexKey.VKey()
			k, err := checkpoint.NewVKey("another."+k.Name, k.Type, k.Key)
			if err != nil {
				t.Fatal(err)
			}
			m[IndexFile] = append(m[IndexFile], "\n"+k.String()+"\n"...)
		},
	} {
		files := w.Trust()
		change(files)
		if _, err := ParseTrust(files); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	files := w.Trust()
	delete(files, IndexFile)
	if trust, err := ParseTrust(files); err != nil || len(trust.Index) != 0 {
		t.Errorf("no index.txt: %v", err)
	}
}

func TestCallSize(t *testing.T) {
	small := make([][]byte, maxBatchLines+5)
	all := make([]int, len(small))
	for i := range small {
		small[i], all[i] = make([]byte, 10), i
	}
	big := [][]byte{make([]byte, maxBatchBytes+1), make([]byte, maxBatchBytes/2), make([]byte, maxBatchBytes/2-2), {1}}
	for _, tc := range []struct {
		dsses [][]byte
		todo  []int
		want  int
	}{{small, all, maxBatchLines}, {small, all[:3], 3}, {big, []int{0, 1}, 1}, {big, []int{1, 2, 3}, 2}, {big, []int{3}, 1}} {
		if n := callSize(tc.dsses, tc.todo); n != tc.want {
			t.Errorf("%d of %d go into a call, want %d", n, len(tc.todo), tc.want)
		}
	}
}
