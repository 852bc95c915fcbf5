package custody

import (
	"crypto/ed25519"
	"crypto/sha512"
	"sync"
	"sync/atomic"

	"filippo.io/edwards25519"
	"filippo.io/edwards25519/field"
	"github.com/hdevalence/ed25519consensus"
)

// Ed25519 with tables for keys that sign often. The rule is that of
// ed25519consensus (ZIP-215), which decides whenever the shortcut does not say yes:
// the shortcut computes R = [s]B - [k]A from tables of multiples of B and -A and
// compares its one canonical encoding with the signature's first half. If they are
// equal, that half decodes to R, and [8](R - R) = 0: ZIP-215 accepts too. Nothing
// here is secret, so nothing takes constant time.

// niels is a point (x, y) prepared for additions: y+x, y-x, 2dxy.
type niels struct{ sum, diff, t2d field.Element }

// coords is a point in extended coordinates: x = X/Z, y = Y/Z, xy = T/Z.
type coords struct{ x, y, z, t field.Element }

// dTwice is 2d of the curve -x^2 + y^2 = 1 + d x^2 y^2.
var dTwice = func() (d field.Element) {
	var num, den field.Element
	num.Mult32(num.One(), 121665)
	den.Mult32(den.One(), 121666)
	d.Multiply(num.Negate(&num), den.Invert(&den))
	d.Add(&d, &d)
	return d
}()

func (p *coords) zero() {
	p.x.Zero()
	p.y.One()
	p.z.One()
	p.t.Zero()
}

// add adds q, or subtracts it (Hisil, Wong, Carter, Dawson 2008, section 3.1 with
// Z2 = 1). The formula is complete: it has no exceptions on this curve.
func (p *coords) add(q *niels, negative bool) {
	var a, b, c, d, e, f, g, h field.Element
	a.Subtract(&p.y, &p.x)
	b.Add(&p.y, &p.x)
	c.Multiply(&p.t, &q.t2d)
	d.Add(&p.z, &p.z)
	if negative {
		a.Multiply(&a, &q.sum)
		b.Multiply(&b, &q.diff)
		f.Add(&d, &c)
		g.Subtract(&d, &c)
	} else {
		a.Multiply(&a, &q.diff)
		b.Multiply(&b, &q.sum)
		f.Subtract(&d, &c)
		g.Add(&d, &c)
	}
	e.Subtract(&b, &a)
	h.Add(&b, &a)
	p.x.Multiply(&e, &f)
	p.y.Multiply(&g, &h)
	p.t.Multiply(&e, &h)
	p.z.Multiply(&f, &g)
}

// double doubles p (the same paper, section 3.3 with a = -1).
func (p *coords) double() {
	var a, b, c, e, f, g, h field.Element
	a.Square(&p.x)
	b.Square(&p.y)
	c.Square(&p.z)
	c.Add(&c, &c)
	e.Add(&p.x, &p.y)
	e.Square(&e)
	h.Add(&a, &b)
	e.Subtract(&e, &h)
	g.Subtract(&b, &a)
	f.Subtract(&g, &c)
	h.Negate(&h)
	p.x.Multiply(&e, &f)
	p.y.Multiply(&g, &h)
	p.t.Multiply(&e, &h)
	p.z.Multiply(&f, &g)
}

// digits writes a scalar (32 bytes, little-endian, below 2^253) in signed digits
// of w bits, at most 10, each from 1-2^(w-1) to 2^(w-1), lowest first.
func digits(out []int16, s []byte, w uint) {
	var wide [35]byte
	copy(wide[:], s)
	carry, half := int16(0), int16(1)<<(w-1)
	for i := range out {
		at := uint(i) * w
		three := uint32(wide[at/8]) | uint32(wide[at/8+1])<<8 | uint32(wide[at/8+2])<<16
		d := int16(three>>(at%8)&(1<<w-1)) + carry
		carry = 0
		if d > half {
			d -= 2 * half
			carry = 1
		}
		out[i] = d
	}
}

// baseTable holds the multiples 1 to 512 of [1024^i]B: 1.6 MB.
const baseBits, baseDigits = 10, 26

var baseTable = sync.OnceValue(func() *[baseDigits][1 << (baseBits - 1)]niels {
	t := new([baseDigits][1 << (baseBits - 1)]niels)
	rows := make([][]niels, baseDigits)
	for i := range rows {
		rows[i] = t[i][:]
	}
	multiples(edwards25519.NewGeneratorPoint(), rows, baseBits)
	return t
})

// shape is how a key's table is laid out: digits of so many bits, of which so many in
// a row share a row of multiples, for as many doublings less one.
type shape struct{ bits, share, digits uint }

var (
	smallShape = shape{bits: 6, share: 2, digits: 43} // 22 rows of 32: 83 KB
	largeShape = shape{bits: 8, share: 1, digits: 32} // 32 rows of 128: 480 KB
)

const maxDigits = 43

// keyTable holds the multiples from 1 on of [2^(bits*share*i)](-A) in row i.
type keyTable struct {
	shape
	rows [][]niels
}

func newKeyTable(minusA *edwards25519.Point, of shape) *keyTable {
	t := &keyTable{of, make([][]niels, (of.digits+of.share-1)/of.share)}
	half := 1 << (of.bits - 1)
	all := make([]niels, len(t.rows)*half)
	for i := range t.rows {
		t.rows[i] = all[i*half : (i+1)*half]
	}
	multiples(minusA, t.rows, int(of.bits*of.share))
	return t
}

// multiples fills row i with the multiples of [2^(step*i)]p from 1 on.
func multiples(p *edwards25519.Point, rows [][]niels, step int) {
	at := new(edwards25519.Point).Set(p)
	var all []*edwards25519.Point
	for _, row := range rows {
		m := new(edwards25519.Point).Set(at)
		for range row {
			all = append(all, m)
			m = new(edwards25519.Point).Add(m, at)
		}
		for range step {
			at.Add(at, at)
		}
	}
	zs := make([]field.Element, len(all))
	for i, q := range all {
		_, _, z, _ := q.ExtendedCoordinates()
		zs[i] = *z
	}
	inverses(zs)
	k := 0
	for _, row := range rows {
		for j := range row {
			px, py, _, _ := all[k].ExtendedCoordinates()
			var x, y field.Element
			x.Multiply(px, &zs[k])
			y.Multiply(py, &zs[k])
			row[j].sum.Add(&y, &x)
			row[j].diff.Subtract(&y, &x)
			row[j].t2d.Multiply(&x, &y)
			row[j].t2d.Multiply(&row[j].t2d, &dTwice)
			k++
		}
	}
}

// inverses replaces elements other than zero by their inverses, at the price of
// one inversion and three multiplications each (Montgomery's trick).
func inverses(zs []field.Element) {
	before := make([]field.Element, len(zs))
	var acc field.Element
	acc.One()
	for i := range zs {
		before[i] = acc
		acc.Multiply(&acc, &zs[i])
	}
	acc.Invert(&acc)
	for i := len(zs) - 1; i >= 0; i-- {
		var inv field.Element
		inv.Multiply(&acc, &before[i])
		acc.Multiply(&acc, &zs[i])
		zs[i] = inv
	}
}

// combine computes [s]B - [k]A; s and k are canonical scalars.
//
// What it adds up is copied out of the tables first: one addition alone fills the
// processor's window, so each would wait for its own memory, while copies wait
// together: it takes 0.6 of the time when other work has the caches.
func (t *keyTable) combine(out *coords, s, k []byte) {
	var kd [maxDigits]int16
	var sd [baseDigits]int16
	digits(kd[:t.digits], k, t.bits)
	digits(sd[:], s, baseBits)
	var ofKey [maxDigits]niels
	var ofBase [baseDigits]niels
	for i := range t.digits {
		ofKey[i].gather(t.rows[i/t.share], kd[i])
	}
	base := baseTable()
	for i, d := range sd {
		ofBase[i].gather(base[i][:], d)
	}
	out.zero()
	for first := t.share; first > 0; first-- {
		for i := first - 1; i < t.digits; i += t.share {
			out.addMultiple(&ofKey[i], kd[i])
		}
		if first > 1 {
			for range t.bits {
				out.double()
			}
		}
	}
	for i, d := range sd {
		out.addMultiple(&ofBase[i], d)
	}
}

// gather copies the multiple that a digit asks for, whatever its sign.
func (q *niels) gather(row []niels, d int16) {
	if d != 0 {
		*q = row[max(d, -d)-1]
	}
}

func (p *coords) addMultiple(q *niels, d int16) {
	if d != 0 {
		p.add(q, d < 0)
	}
}

// edCheck is one signature of a key with tables, on its way to be verified.
type edCheck struct {
	pub ed25519.PublicKey
	sig []byte
	tab *keyTable
	r   coords
}

// start computes R; false means that the shortcut does not apply.
func (c *edCheck) start(message []byte) bool {
	if len(c.pub) != ed25519.PublicKeySize || len(c.sig) != ed25519.SignatureSize {
		return false
	}
	s, err := edwards25519.NewScalar().SetCanonicalBytes(c.sig[32:])
	if err != nil {
		return false
	}
	h := sha512.New()
	h.Write(c.sig[:32])
	h.Write(c.pub)
	h.Write(message)
	var digest [sha512.Size]byte
	k, err := edwards25519.NewScalar().SetUniformBytes(h.Sum(digest[:0]))
	if err != nil {
		return false
	}
	c.tab.combine(&c.r, s.Bytes(), k.Bytes())
	return true
}

// isR reports whether R, whose Z has the given inverse, is encoded as in the
// signature.
func (c *edCheck) isR(zInverse *field.Element) bool {
	var x, y field.Element
	x.Multiply(&c.r.x, zInverse)
	y.Multiply(&c.r.y, zInverse)
	b := y.Bytes()
	b[31] |= byte(x.IsNegative() << 7)
	return string(b) == string(c.sig[:32])
}

// edMemo is what is kept of an Ed25519 key beside its bytes.
type edMemo struct {
	uses  atomic.Int32
	table atomic.Pointer[keyTable]
}

const (
	// tableUses is how many signatures a key verifies before it gets a small table, which
	// costs about as much as ten checks and saves half of each; largeUses for a large
	// one, which costs some forty and saves a fifth of what is left.
	tableUses, largeUses = 32, 2048
	// maxTables bounds the tables in memory, to 21 MB, and maxLarge the large ones among
	// them, to 15 MB more.
	maxTables, maxLarge = 256, 32
)

// tables are the keys that have one now.
var tables struct {
	sync.Mutex
	keys  []*edMemo
	large int
}

// tableOf returns the key's table, nil while it has none.
func (k *edMemo) tableOf(pub ed25519.PublicKey) *keyTable {
	if k == nil {
		return nil
	}
	t := k.table.Load()
	if t != nil && t.share == largeShape.share {
		return t // as busy as it gets: nothing is counted
	}
	switch k.uses.Add(1) {
	case tableUses:
		return k.build(pub, smallShape)
	case largeUses:
		return k.build(pub, largeShape)
	}
	return t
}

// build makes the key a table, while there is room for one of that shape.
func (k *edMemo) build(pub ed25519.PublicKey, of shape) *keyTable {
	a, err := new(edwards25519.Point).SetBytes(pub)
	if err != nil {
		return nil
	}
	tables.Lock()
	defer tables.Unlock()
	if of == largeShape {
		if small := k.table.Load(); small == nil || tables.large == maxLarge {
			return small // nil: all have begun anew meanwhile
		}
		tables.large++
	} else {
		if len(tables.keys) >= maxTables { // all begin anew; those in use come back soon
			for _, old := range tables.keys {
				old.table.Store(nil)
				old.uses.Store(0)
			}
			tables.keys, tables.large = tables.keys[:0], 0
		}
		tables.keys = append(tables.keys, k)
	}
	t := newKeyTable(a.Negate(a), of)
	k.table.Store(t)
	return t
}

// verifyEd25519 checks one signature by ZIP-215.
func verifyEd25519(k *edMemo, pub ed25519.PublicKey, message, sig []byte) bool {
	if t := k.tableOf(pub); t != nil {
		c := edCheck{pub: pub, sig: sig, tab: t}
		if c.start(message) {
			var z field.Element
			if c.isR(z.Invert(&c.r.z)) {
				return true
			}
		}
	}
	return len(pub) == ed25519.PublicKeySize && ed25519consensus.Verify(pub, message, sig)
}

// edBatch verifies many signatures together.
type edBatch struct {
	fast []edCheck
	rest ed25519consensus.BatchVerifier
	n    int // in rest
}

func newEdBatch(n int) *edBatch {
	return &edBatch{fast: make([]edCheck, 0, n), rest: ed25519consensus.NewBatchVerifier()}
}

// add puts a signature in.
func (b *edBatch) add(k *edMemo, pub ed25519.PublicKey, message, sig []byte) {
	if t := k.tableOf(pub); t != nil {
		b.fast = append(b.fast, edCheck{pub: pub, sig: sig, tab: t})
		if c := &b.fast[len(b.fast)-1]; c.start(message) {
			return
		}
		b.fast = b.fast[:len(b.fast)-1]
	}
	b.rest.Add(pub, message, sig)
	b.n++
}

// good reports whether all are good; if not, each is to be verified by itself.
func (b *edBatch) good() bool {
	zs := make([]field.Element, len(b.fast))
	for i := range zs {
		zs[i] = b.fast[i].r.z
	}
	inverses(zs)
	for i := range zs {
		if !b.fast[i].isR(&zs[i]) {
			return false
		}
	}
	return b.n == 0 || b.rest.Verify()
}
