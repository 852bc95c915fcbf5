package node

import (
	"context"
	"crypto/rsa"
	"errors"
	"math/bits"
	"slices"

	"fabtrail.dev/fabtrail/api"
	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// What statements count for beyond being one each, in statements accepted in a batch.
// It is charged before the work, and is more than the work costs (make costs).
const (
	envelopeUnit = 6 << 10 // bytes of an envelope's JSON
	memberUnit   = 4       // members of a manifest
)

// signatureWeight is what verifying one signature counts for.
func signatureWeight(k custody.Key) int {
	switch k.Algorithm() {
	case custody.ECDSAP256:
		return 2
	case custody.ECDSAP384:
		return 14
	case custody.RSAPSS:
		// Multiplications of numbers of n bits cost in proportion to n squared; one is
		// needed for each bit of the exponent, and another for each that is set.
		p := k.Public.(*rsa.PublicKey)
		kilobits := (p.N.BitLen() + 1023) / 1024
		steps := bits.Len(uint(p.E)) + bits.OnesCount(uint(p.E))
		return 1 + kilobits*kilobits*steps/32
	}
	return 1 // Ed25519
}

// cashier charges the caller of one request for the work on its statements.
type cashier struct {
	n         *Node
	ctx       context.Context
	meter     api.Meter
	manifests func(entry.Hash) (*manifest, error)
}

func (c *cashier) take(n int) error {
	if n <= 0 {
		return nil
	}
	return c.meter.Take(c.ctx, n)
}

// envelopes charges for reading them.
func (c *cashier) envelopes(bodies [][]byte) error {
	sum := 0
	for _, b := range bodies {
		sum += len(b) / envelopeUnit
	}
	return c.take(sum)
}

// signatures charges for those that are to be verified, and for keys that are to be
// checked because the statement brings them. One Ed25519 signature is free: that is
// a statement as it mostly is.
func (c *cashier) signatures(st *custody.Statement, with []custody.Key) error {
	return c.take(unpaid(st, with))
}

// unpaid is what the signatures of a statement count for beyond being one.
func unpaid(st *custody.Statement, with []custody.Key) int {
	sum := len(st.IntroducedKeys()) - 1
	for _, k := range with {
		sum += signatureWeight(k)
	}
	return sum
}

// members reads the members that a statement speaks of, once they are paid for.
// Whoever names fewer than the manifest has pays afterwards.
func (c *cashier) members(st *custody.Statement) ([]custody.Member, error) {
	contents := st.Contents()
	if contents == nil {
		return c.named(st)
	}
	said := int(contents.Count) / memberUnit
	if err := c.take(said); err != nil {
		return nil, err
	}
	return members(func(sum entry.Hash) (*manifest, error) {
		got, err := c.manifests(sum)
		if err == nil {
			c.meter.Owe(len(got.Members)/memberUnit - said)
		}
		return got, err
	}, st)
}

// named reads the members of the statement that a void, dispute or lift names: it
// concerns all of them again.
func (c *cashier) named(st *custody.Statement) ([]custody.Member, error) {
	sum := custody.ManifestOf(committed{c.n.ledger}, st)
	if sum.IsZero() {
		return nil, nil
	}
	b, err := c.n.ledger.Manifest(sum)
	if err != nil {
		return nil, err
	}
	if err := c.take(custody.ManifestCount(b) / memberUnit); err != nil {
		return nil, err
	}
	m, err := c.manifests(sum)
	if err != nil {
		return nil, err
	}
	return m.Members, nil
}

// namedBefore gives statements that name one before them in the same request the
// members of that.
func (c *cashier) namedBefore(items []*prepared, results []api.Result) {
	by := map[entry.Hash]*prepared{}
	for i, p := range items {
		if p == nil {
			continue
		}
		id, ok := custody.NamedBy(p.signed.Statement)
		if named := by[id]; ok && named != nil && p.members == nil {
			if err := c.take(len(named.members) / memberUnit); err != nil {
				items[i], results[i].Err = nil, err
				continue
			}
			p.members = named.members
		}
		if len(p.members) > 0 {
			by[p.signed.Statement.ID] = p
		}
	}
}

// verify checks the envelopes that have no error yet.
func (c *cashier) verify(ds []custody.DSSE, items []*prepared, results []api.Result, keys custody.KeyLookup) {
	var todo []custody.DSSE
	var lines []int
	for i := range ds {
		if results[i].Err == nil {
			todo, lines = append(todo, ds[i]), append(lines, i)
		}
	}
	signed, errs := custody.OpenPaid(todo, keys, func(_ int, st *custody.Statement, with []custody.Key) error {
		return c.signatures(st, with)
	})
	for k, i := range lines {
		if errs[k] != nil {
			results[i].Err = errs[k]
			continue
		}
		ms, err := c.members(signed[k].Statement)
		if err != nil {
			results[i].Err = err
			continue
		}
		items[i] = &prepared{signed: signed[k], members: ms}
	}
}

// opening is the job of reading and verifying one envelope as it mostly is: with one
// Ed25519 signature, of a statement without members or new keys.
type opening struct {
	envelope []byte
	keys     custody.KeyLookup
	reading  *custody.Unverified // nil if the envelope could not be read
	signed   *custody.Signed
	err      error
}

// errSpecial is of envelopes that are not as they mostly are: they are work of their own.
var errSpecial = errors.New("the envelope has more to be verified")

// read implements job.
func (o *opening) read() {
	d, err := custody.ParseDSSE(o.envelope)
	if err != nil {
		o.err = err
		return
	}
	o.reading = custody.ReadPaid([]custody.DSSE{d}, o.keys, func(_ int, st *custody.Statement, with []custody.Key) error {
		if _, named := custody.NamedBy(st); named || st.Contents() != nil || unpaid(st, with) > 0 {
			return errSpecial
		}
		return nil
	})
}

// finish implements job.
func (o *opening) finish(others []job) {
	all := []*opening{o}
	for _, j := range others {
		all = append(all, j.(*opening))
	}
	all = slices.DeleteFunc(all, func(o *opening) bool { return o.reading == nil })
	if len(all) > 1 {
		readings := make([]*custody.Unverified, len(all))
		for i, o := range all {
			readings[i] = o.reading
		}
		custody.VerifyTogether(readings)
	}
	for _, o := range all {
		signed, errs := o.reading.Verify()
		o.signed, o.err = signed[0], errs[0]
	}
}
