package unitindex

import (
	"bytes"
	"fmt"

	"fabtrail.dev/fabtrail/ledger/entry"
)

// Grower reads the rows of buckets and makes the new ones. Each goroutine of an
// update has a Grower of its own, and mostly comes to it with ascending buckets.
type Grower interface {
	// Grow passes the rows under b's prefix, in ascending order, to b.Row, unless b is
	// new, and the new value of each topic of the update that is in b to b.Set.
	Grow(b *Bucket) error
}

// Bucket is one that an update has come to.
type Bucket struct {
	Prefix   entry.Hash // of its topics; bits after the first are zero
	Bits     int        // length of Prefix
	New      bool       // no topics are in it yet
	From, To int        // the topics of the update that are in it

	old, changes []leaf
}

// Row takes a row as it is before the update, and refuses one that is out of order or
// place.
func (b *Bucket) Row(topic, value *entry.Hash) error {
	if err := follows(b.old, topic, &b.Prefix, b.Bits); err != nil {
		return err
	}
	b.old = append(b.old, leaf{topic: *topic, value: *value})
	return nil
}

// Set gives the topic i of the update, From to To-1, its new value.
func (b *Bucket) Set(i int, value *entry.Hash) { b.changes[i-b.From].value = *value }

// Grow is Update with values that follow from the rows: each bucket is read once, by
// the Grower that makes its new rows. Topics ascend, each at most once. open is called
// for each goroutine, by several at once.
func (t *Tree) Grow(topics []entry.Hash, open func() (Grower, error)) (*Tree, error) {
	leaves := make([]leaf, len(topics))
	for i := range topics {
		if i > 0 && bytes.Compare(topics[i-1][:], topics[i][:]) >= 0 {
			return nil, fmt.Errorf("topic %s is out of order in an update, or changed twice", topics[i])
		}
		leaves[i].topic = topics[i]
	}
	return t.pass(&pass{open: open}, leaves)
}

// scanner is the Grower of an update whose values are known.
type scanner struct{ rows Rows }

// Grow implements Grower.
func (s scanner) Grow(b *Bucket) error {
	if b.New {
		return nil
	}
	return s.rows.Scan(b.Prefix, b.Bits, func(topic, value entry.Hash) error { return b.Row(&topic, &value) })
}
