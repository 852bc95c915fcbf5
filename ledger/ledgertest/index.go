package ledgertest

import (
	"errors"
	"fmt"
	"strings"

	"fabtrail.dev/fabtrail/ledger"
	"fabtrail.dev/fabtrail/ledger/entry"
	"fabtrail.dev/fabtrail/ledger/unitindex"
)

// CheckIndex holds what a view says to the index made anew from its entries, which are
// App's: its commitment is true, and so is every list that it answers, with its proof,
// and the absence of a topic that no entry has. refused is how many lists it refused as
// damaged. An empty view says nothing.
func CheckIndex(v *ledger.View) (refused int, err error) {
	if v.Size() == 0 {
		return 0, nil
	}
	mem := unitindex.NewMemIndex()
	lists := map[entry.Hash][]unitindex.Ref{Topic("never"): nil}
	for i := range v.Size() - 1 {
		e, err := v.Entry(i)
		if err != nil {
			return 0, err
		}
		ref := unitindex.Ref{Index: i, Leaf: e.LeafHash()}
		for _, topic := range topicsOf(e) {
			if n := len(lists[topic]); n > 0 && lists[topic][n-1] == ref {
				continue
			}
			lists[topic] = append(lists[topic], ref)
			if err := mem.Append(topic, ref); err != nil {
				return 0, err
			}
		}
	}
	root, err := mem.Commit()
	if err != nil {
		return 0, err
	}
	last, err := v.Entry(v.Size() - 1)
	if err != nil || last.Class != entry.Index || last.Covers != v.Size()-1 || last.IndexRoot != root {
		return 0, fmt.Errorf("the commitment at size %d is false: %w", v.Size(), err)
	}
	for topic, want := range lists {
		refs, p, err := v.List(topic)
		if errors.Is(err, ledger.ErrDamaged) {
			refused++
			continue
		}
		if err != nil {
			return refused, err
		}
		value, present, err := unitindex.Verify(root, topic, p)
		if err != nil || present != (len(want) > 0) || len(refs) != len(want) || present && (value != unitindex.ListValue(want) || value != unitindex.ListValue(refs)) {
			return refused, fmt.Errorf("topic %s: %d of %d entries, present %t: %w", topic, len(refs), len(want), present, err)
		}
	}
	return refused, nil
}

// topicsOf are the topics of an entry of App.
func topicsOf(e entry.Entry) (out []entry.Hash) {
	if e.Class == entry.Index {
		return nil
	}
	env, err := entry.ParseEnvelope(e.Envelope)
	if err != nil {
		return nil // a list that has it tells
	}
	for line := range strings.Lines(string(env.Payload)) {
		if f := append(strings.Fields(line), ""); f[0] == "topic" {
			out = append(out, Topic(f[1]))
		}
	}
	return out
}

// wholeIndex is CheckIndex where nothing is damaged, for what is signed and for what is
// published, which may be less.
func wholeIndex(l *ledger.Ledger) error {
	signed, published := l.Signed(), l.Published()
	views := []*ledger.View{signed}
	if published.Size() != signed.Size() {
		views = append(views, published)
	}
	for _, v := range views {
		refused, err := CheckIndex(v)
		if err == nil && refused > 0 {
			err = fmt.Errorf("%d lists refused", refused)
		}
		if err != nil {
			return fmt.Errorf("index at size %d: %w", v.Size(), err)
		}
	}
	return nil
}
