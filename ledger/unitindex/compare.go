package unitindex

import "fabtrail.dev/fabtrail/ledger/entry"

// Difference is a part in which two trees are not equal: the topics whose first Bits
// bits are those of Prefix.
type Difference struct {
	Prefix entry.Hash // bits after the first Bits are zero
	Bits   int        // 256: one topic
	Gone   bool       // the other tree has none of these topics
}

// Holds reports whether topic is in that part.
func (d Difference) Holds(topic entry.Hash) bool { return commonBits(&topic, &d.Prefix) >= d.Bits }

// Compare tells where the tree of another root differs from t: p is a proof that was
// verified for topic under that root, and rows are those of t. Outside the parts that
// it returns, which do not overlap and stand in the order of the proof's path, both trees are
// equal. It returns none exactly if their roots are equal. This holds if the other tree is made
// as specified; whoever goes on into a part and finds no difference there knows that it is
// not.
func (t *Tree) Compare(rows Rows, topic entry.Hash, p Proof) ([]Difference, error) {
	if p.Kind == Empty {
		if t.top.hash.IsZero() {
			return nil, nil
		}
		return []Difference{{Gone: true}}, nil
	}
	leaf := topic
	if p.Kind == Absent {
		leaf = p.Neighbour
	}
	ours, value, had, err := t.beside(rows, leaf)
	if err != nil {
		return nil, err
	}
	var out []Difference
	next := 0 // of the siblings
	for pos := range topicBits {
		var theirs entry.Hash
		if bit(&p.Bits, pos) == 1 {
			theirs = p.Siblings[next]
			next++
		}
		if theirs != ours[pos] {
			out = append(out, Difference{Prefix: fork(leaf, pos), Bits: pos + 1, Gone: theirs.IsZero()})
		}
	}
	if !had || value != p.Value {
		out = append(out, Difference{Prefix: leaf, Bits: topicBits})
	}
	return out, nil
}

// beside returns, for each bit position, the hash of t's topics that agree with leaf in
// all bits before it and not in this one, zero if there are none; and the value of leaf
// in t, if it is there.
func (t *Tree) beside(rows Rows, leaf entry.Hash) (hashes [topicBits]entry.Hash, value entry.Hash, had bool, err error) {
	p, err := t.Prove(rows, leaf)
	if err != nil || p.Kind == Empty {
		return hashes, value, false, err
	}
	end, last := leaf, topicBits // where leaf's descent ends, and how far that agrees with leaf
	if p.Kind == Absent {
		end, last = p.Neighbour, commonBits(&p.Neighbour, &leaf)
	} else {
		value, had = p.Value, true
	}
	// No topic of t agrees with leaf further than end does: the nodes below the bit where
	// they part are, with end, all of what is on the other side there.
	i := len(p.Siblings)
	below := hashLeaf(&end, &p.Value)
	for pos := topicBits - 1; pos >= 0; pos-- {
		if bit(&p.Bits, pos) == 0 {
			continue
		}
		i--
		if pos > last {
			below = join(pos, bit(&end, pos), &below, &p.Siblings[i])
		} else {
			hashes[pos] = p.Siblings[i]
		}
	}
	if last < topicBits {
		hashes[last] = below
	}
	return hashes, value, had, nil
}

// fork is the prefix of pos+1 bits that agrees with topic in all but the last.
func fork(topic entry.Hash, pos int) entry.Hash {
	var out entry.Hash
	n := pos / 8
	copy(out[:], topic[:n])
	out[n] = (topic[n] ^ 0x80>>(pos%8)) & (0xff << (7 - pos%8))
	return out
}
