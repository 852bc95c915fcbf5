package node

import (
	"errors"
	"sync"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/internal/problem"
	"fabtrail.dev/fabtrail/ledger"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// app is custody as the ledger's application: it decides every submission at the
// index and time that it would get.
type app struct{}

// Decide implements ledger.App.
func (a app) Decide(st ledger.State, at ledger.At, sub ledger.Submission) ledger.Outcome {
	item, err := a.item(st, at, sub)
	if err != nil {
		return ledger.Outcome{Refused: err}
	}
	d, err := custody.Decide(st, item)
	if err != nil {
		return ledger.Outcome{Refused: err}
	}
	topics := make([]entry.Hash, len(d.Topics))
	for i, t := range d.Topics {
		topics[i] = t.Hash()
	}
	return ledger.Outcome{Class: d.Class, Topics: topics, Effect: effect(d)}
}

// maxEffect is what the ledger keeps of an effect, in bytes.
const maxEffect = 255

// effect is what the submitter is told: the effect in a word or two, and serials
// that an unknown one may be a misreading of.
func effect(d custody.Decision) string {
	word := d.Effect.Word()
	if d.Hint != "" && len(word)+len(d.Hint)+2 <= maxEffect {
		word += "; " + d.Hint
	}
	return word
}

func (a app) item(st ledger.State, at ledger.At, sub ledger.Submission) (custody.Item, error) {
	item := custody.Item{Index: at.Index, Time: at.Time}
	p, posted := sub.Parsed.(*prepared)
	if posted {
		item.Signed, item.Members, item.Foreseen = p.signed, p.members, p.foreseen
	} else { // the ledger reads its own entries again
		signed, err := custody.OpenCanonical(sub.Envelope, custody.StateKeys{State: st})
		if err != nil {
			return item, err
		}
		item.Signed = signed
		if item.Members, err = members(parsedManifests(sub.Manifests), signed.Statement); err != nil {
			return item, err
		}
	}
	if item.Members != nil {
		return item, nil
	}
	// void, dispute and lift speak of the members of the statement that they name.
	named := custody.ManifestOf(st, item.Signed.Statement)
	if named.IsZero() {
		return item, nil
	}
	b, err := sub.Manifests(named)
	if err != nil {
		return item, err
	}
	if posted && custody.ManifestCount(b) >= foreseeFrom {
		// It was recorded after this one was looked at. To read so many members here
		// would hold everybody up, unpaid.
		return item, problem.New("not_ready", "", "the statement that is named was being recorded, and is about many units").
			WithHint("send it again").With("retryAfter", 1)
	}
	m, err := custody.ParseManifest(b)
	item.Members = m.Members
	return item, err
}

// members reads the manifest that a statement names and holds it to what the
// statement signs; nil when it names none.
func members(load func(entry.Hash) (*manifest, error), st *custody.Statement) ([]custody.Member, error) {
	contents := st.Contents()
	if contents == nil {
		return nil, nil
	}
	digest, err := entry.ParseHash(contents.Manifest)
	if err != nil {
		return nil, err
	}
	m, err := load(digest)
	if errors.Is(err, ledger.ErrNotFound) {
		return nil, problem.New("missing_manifest", "/predicate/contents/manifest", "the manifest %s is not here", digest).
			WithHint("upload it first: PUT /v1/manifests/%s", digest)
	}
	if err != nil {
		return nil, err
	}
	if err := st.CheckManifestOf(m.Manifest, m.is); err != nil {
		return nil, err
	}
	return m.Members, nil
}

// manifest is one that was read, with what a statement has to say of it.
type manifest struct {
	custody.Manifest
	is custody.Contents
}

// parsedManifests reads manifests from their bytes.
func parsedManifests(load func(entry.Hash) ([]byte, error)) func(entry.Hash) (*manifest, error) {
	return func(digest entry.Hash) (*manifest, error) {
		b, err := load(digest)
		if err != nil {
			return nil, err
		}
		m, err := custody.ParseManifest(b)
		if err != nil {
			return nil, err
		}
		return &manifest{m, m.Contents()}, nil
	}
}

// once remembers what load returned, for one call: statements of 1 KB that name one
// manifest of 16 MiB then cost its memory and its hashes once.
func once(load func(entry.Hash) (*manifest, error)) func(entry.Hash) (*manifest, error) {
	var mu sync.Mutex
	read := map[entry.Hash]func() (*manifest, error){}
	return func(digest entry.Hash) (*manifest, error) {
		mu.Lock()
		get, ok := read[digest]
		if !ok {
			get = sync.OnceValues(func() (*manifest, error) { return load(digest) })
			read[digest] = get
		}
		mu.Unlock()
		return get()
	}
}
