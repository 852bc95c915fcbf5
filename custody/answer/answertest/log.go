// Package answertest is a ledger in memory for tests of those who read one: a
// log with index, commitments, manifests and cosigned checkpoints, made of the
// same pure packages as the real one, and parties that play custody on it. What
// the operator of a real ledger must never do, its fields let a test do.
package answertest

import (
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"testing"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/entry"
	"fabtrail.dev/fabtrail/ledger/unitindex"
)

// Origin is the name of the log.
const Origin = "ledger.example/test"

// Key derives a private key from a name: the same in every run.
func Key(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte("fabtrail test key " + name))
	return ed25519.NewKeyFromSeed(seed[:])
}

// Log is a ledger in memory. Its zero value is not usable; see NewLog.
type Log struct {
	t testing.TB

	Time    uint64 // admittedAt of the next entry, Unix ms; each entry adds a second
	Entries []entry.Entry
	Tree    Tree
	Refs    map[entry.Hash][]unitindex.Ref // by topic
	Index   *unitindex.MemIndex
	Sums    map[entry.Hash][]byte // manifests
	Names   map[uint64]entry.Hash // manifest that an entry names
	State   custody.MapState

	Signer    *checkpoint.Signer
	Witnesses []*checkpoint.Signer
	IndexKey  *checkpoint.Signer // index-verifying cosigner, in no quorum
	Honest    bool               // whether the index-verifying cosigner agrees to what Publish signs
	Note      []byte             // the published checkpoint
	Published uint64
	false     *falseIndex // what Falsify made of the index

	// Hide, if set, keeps entry n out of the list of a topic: a false index. The
	// index-verifying cosigner notices, so Honest is to be false.
	Hide func(n uint64, topic entry.Hash) bool
	// Falsify, if set, changes the lists that Publish commits to: it gets a copy of the true
	// ones, to the elements of which it must not write. The view shows what came of it, and
	// Honest is to be false. At the next Publish it gets the true ones again.
	Falsify func(lists map[entry.Hash][]unitindex.Ref)
	// OnPublish, if set, is called after every Publish.
	OnPublish func()
}

// NewLog returns an empty log with three witnesses and an index-verifying
// cosigner.
func NewLog(t testing.TB) *Log {
	t.Helper()
	l := &Log{
		t: t, Time: 1_790_000_000_000, Refs: map[entry.Hash][]unitindex.Ref{}, Index: unitindex.NewMemIndex(),
		Sums: map[entry.Hash][]byte{}, Names: map[uint64]entry.Hash{}, State: custody.MapState{}, Honest: true,
	}
	l.Signer = l.signer(Origin, checkpoint.TypeLog)
	for i := range 3 {
		l.Witnesses = append(l.Witnesses, l.signer(fmt.Sprintf("w%d.example", i+1), checkpoint.TypeCosigner))
	}
	l.IndexKey = l.signer("index.example", checkpoint.TypeCosigner)
	return l
}

func (l *Log) signer(name string, typ byte) *checkpoint.Signer {
	s, err := checkpoint.NewSigner(name, typ, crypto.Signer(Key(name)))
	l.must(err)
	return s
}

// Cleanup has fn called when the test ends.
func (l *Log) Cleanup(fn func()) { l.t.Cleanup(fn) }

func (l *Log) must(err error) {
	if err != nil {
		l.t.Helper()
		l.t.Fatal(err)
	}
}

// Policy is the tlog-policy: two of the three witnesses.
func (l *Log) Policy() string {
	s := "log " + l.Signer.VKey().String() + "\n"
	for i, w := range l.Witnesses {
		s += fmt.Sprintf("witness w%d %s\n", i+1, w.VKey())
	}
	return s + "group g 2 w1 w2 w3\nquorum g\n"
}

// Trust is the trust folder, by file name; charter is the payload of entry 0.
func (l *Log) Trust() map[string][]byte {
	env, err := entry.ParseEnvelope(l.Entries[0].Envelope)
	l.must(err)
	return map[string][]byte{
		"log.vkey":     []byte(l.Signer.VKey().String() + "\n"),
		"policy.txt":   []byte(l.Policy()),
		"charter.json": env.Payload,
		"index.txt":    []byte("# index-verifying cosigners\n" + l.IndexKey.VKey().String() + "\n"),
	}
}

// Add appends an entry under topics and returns its index. It fills in the time
// and, for a restricted entry, the salt.
func (l *Log) Add(e entry.Entry, manifest entry.Hash, topics ...entry.Hash) uint64 {
	l.t.Helper()
	n := uint64(len(l.Entries))
	e.Time = l.Time
	l.Time += 1000
	if e.Class == entry.Restricted {
		e.Salt = sha256.Sum256(binary.BigEndian.AppendUint64([]byte("salt"), n))
	}
	leaf := e.LeafHash()
	l.Entries, l.Tree = append(l.Entries, e), append(l.Tree, leaf)
	if !manifest.IsZero() {
		l.Names[n] = manifest
	}
	seen := map[entry.Hash]bool{}
	for _, t := range topics {
		if seen[t] || l.Hide != nil && l.Hide(n, t) {
			continue
		}
		seen[t] = true
		ref := unitindex.Ref{Index: n, Leaf: leaf}
		l.Refs[t] = append(l.Refs[t], ref)
		l.must(l.Index.Append(t, ref))
	}
	return n
}

// Publish adds the index commitment and has the checkpoint signed and cosigned
// at the log's own time.
func (l *Log) Publish() {
	l.t.Helper()
	root, err := l.Index.Commit()
	l.must(err)
	if l.false = nil; l.Falsify != nil {
		l.false = newFalseIndex(l.Refs, l.Falsify)
		tree, err := unitindex.Build(&l.false.rows)
		l.must(err)
		l.false.tree, root = tree, tree.Root()
	}
	l.Add(entry.Entry{Class: entry.Index, Covers: uint64(len(l.Entries)), IndexRoot: root}, entry.Hash{})
	l.Sign()
	if l.OnPublish != nil {
		l.OnPublish()
	}
}

// Sign has the present tree signed and cosigned.
func (l *Log) Sign() {
	l.t.Helper()
	l.Published = uint64(len(l.Entries))
	l.Note = l.NoteFor(l.Checkpoint(), l.Time/1000)
}

// CheckpointAt is the claim about the first n entries.
func (l *Log) CheckpointAt(n uint64) checkpoint.Checkpoint {
	return checkpoint.Checkpoint{Origin: Origin, Size: n, Root: l.Tree[:n].Root()}
}

// Checkpoint is the claim about all entries.
func (l *Log) Checkpoint() checkpoint.Checkpoint { return l.CheckpointAt(uint64(len(l.Entries))) }

// NoteFor signs and cosigns any claim at any time (Unix seconds).
func (l *Log) NoteFor(cp checkpoint.Checkpoint, seconds uint64) []byte {
	l.t.Helper()
	n := checkpoint.Note{Text: cp.Text()}
	sig, err := l.Signer.SignLog(n.Text)
	l.must(err)
	n.Sigs = append(n.Sigs, sig)
	cosigners := l.Witnesses
	if l.Honest {
		cosigners = append(append([]*checkpoint.Signer{}, cosigners...), l.IndexKey)
	}
	for _, w := range cosigners {
		sig, err := w.Cosign(n.Text, seconds)
		l.must(err)
		n.Sigs = append(n.Sigs, sig)
	}
	return n.Marshal()
}

// falseIndex is an index of any lists at all.
type falseIndex struct {
	lists map[entry.Hash][]unitindex.Ref
	rows  unitindex.MemRows
	tree  *unitindex.Tree
}

func newFalseIndex(lists map[entry.Hash][]unitindex.Ref, falsify func(map[entry.Hash][]unitindex.Ref)) *falseIndex {
	f := &falseIndex{lists: maps.Clone(lists)}
	falsify(f.lists)
	for topic, refs := range f.lists {
		if len(refs) > 0 {
			f.rows.Set(topic, unitindex.ListValue(refs))
		}
	}
	return f
}

// View is the published view; it implements answer.Reader.
type View struct{ *Log }

// View returns the published view.
func (l *Log) View() View { return View{l} }

// Checkpoint implements answer.Reader.
func (v View) Checkpoint() []byte { return v.Note }

// Size implements answer.Reader.
func (v View) Size() uint64 { return v.Published }

// Entry implements answer.Reader.
func (v View) Entry(i uint64) (entry.Entry, error) {
	if i >= v.Published {
		return entry.Entry{}, fmt.Errorf("no entry %d", i)
	}
	return v.Entries[i], nil
}

// Inclusion implements answer.Reader.
func (v View) Inclusion(i uint64) ([]entry.Hash, error) {
	return v.Tree[:v.Published].Inclusion(int(i)), nil
}

// Consistency is the proof between two sizes.
func (v View) Consistency(from, to uint64) ([]entry.Hash, error) {
	return v.Tree[:to].Consistency(int(from)), nil
}

// List implements answer.Reader.
func (v View) List(topic entry.Hash) ([]unitindex.Ref, unitindex.Proof, error) {
	if f := v.false; f != nil {
		p, err := f.tree.Prove(&f.rows, topic)
		return f.lists[topic], p, err
	}
	p, err := v.Index.Prove(topic)
	return v.Refs[topic], p, err
}

// Manifest implements answer.Reader.
func (v View) Manifest(sum entry.Hash) ([]byte, error) {
	b, ok := v.Sums[sum]
	if !ok {
		return nil, fmt.Errorf("no manifest %s", sum)
	}
	return b, nil
}
