package rules

import (
	"encoding/binary"

	"fabtrail.dev/fabtrail/custody"
)

// QUOTA: more units of a lot were commissioned than its serial blocks count. What
// the GTIN's owner commissions itself is not counted, and neither is a serial that a
// block lists. One finding stands for a lot until it is withdrawn: by another block,
// which may only be late, or by the voiding of a commission, which may have been a
// typing error.

// quota is the row of a lot: how many commissions count, and the finding that
// stands.
type quota struct {
	made int64
	open claim // index 0: none; entry 0 is the charter
	unit string
	at   uint64 // log index of the block that open names
}

const quotaRow = rowPrefix + "quota "

func loadQuota(st custody.State, lot string) (q quota) {
	b := st.Get(quotaRow + lot)
	num := func() uint64 {
		n, w := binary.Uvarint(b)
		if w <= 0 {
			b = nil
			return 0
		}
		b = b[w:]
		return n
	}
	str := func() string {
		n := min(num(), uint64(len(b)))
		s := string(b[:n])
		b = b[n:]
		return s
	}
	q.made = int64(num())
	q.open.index, q.at = num(), num()
	q.open.actor, q.open.unit, q.unit = str(), str(), str()
	return q
}

func (q quota) store(st custody.State, lot string) {
	b := binary.AppendUvarint(nil, uint64(max(q.made, 0)))
	b = binary.AppendUvarint(binary.AppendUvarint(b, q.open.index), q.at)
	for _, s := range []string{q.open.actor, q.open.unit, q.unit} {
		b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
	}
	st.Set(quotaRow+lot, b)
}

// quotas counts the commissions that an entry made or took back, by lot.
func (r *work) quotas() {
	var lots []string
	change := map[string]int64{}
	last := map[string]*custody.UnitEffect{}
	for i := range r.eff.Units {
		u := &r.eff.Units[i]
		if u.Outcome != custody.Applied || u.Before == nil || u.After == nil {
			continue
		}
		var n int64
		lot := u.After.Lot
		switch {
		case u.Before.Phase == custody.PhaseNone && u.After.Phase != custody.PhaseNone:
			n = 1
		case u.Before.Phase != custody.PhaseNone && u.After.Phase == custody.PhaseNone:
			n, lot = -1, u.Before.Lot
		}
		if n == 0 || lot == "" || custody.SerialListed(r.st, lot, u.Unit.URI) || r.owner(lot) == r.get(u.Unit).maker && n < 0 || r.owner(lot) == u.Actor && n > 0 {
			continue
		}
		if change[lot] == 0 && last[lot] == nil {
			lots = append(lots, lot)
		}
		change[lot] += n
		if n > 0 {
			last[lot] = u
		}
	}
	for _, lot := range lots {
		if change[lot] == 0 {
			continue
		}
		q := loadQuota(r.st, lot)
		q.made += change[lot]
		r.weigh(lot, q, last[lot])
	}
}

func (r *work) owner(lot string) string {
	p, _ := custody.LoadProduct(r.st, custody.GTINOf(lot))
	return p.Owner
}

// weigh compares a lot's count with what its blocks allow. by is the commission that
// was counted last; nil if none was.
func (r *work) weigh(lot string, q quota, by *custody.UnitEffect) {
	l, ok := custody.LoadLot(r.st, lot)
	over := ok && l.Count > 0 && q.made > l.Count
	switch {
	case over && q.open.index == 0 && by != nil:
		q.open, q.unit, q.at = claim{r.it.Index, by.Actor, r.subject.String()}, by.Unit.String(), l.Index
		r.report(Quota, Provisional, by.Actor, []custody.UnitRef{by.Unit}, []uint64{q.at, q.open.index},
			"with %s, %s has commissioned unit %d of lot %s, whose serial blocks allow %d", by.Unit.URI, by.Actor, q.made, lot, l.Count)
	case !over && q.open.index != 0:
		subject, err1 := custody.ParseUnitRef(q.open.unit)
		unit, err2 := custody.ParseUnitRef(q.unit)
		if err1 == nil && err2 == nil { // both are this package's own
			r.reportAs(Quota, Withdrawn, q.open.actor, subject, []custody.UnitRef{unit}, []uint64{q.at, q.open.index},
				"the units of lot "+lot+" are no more than its serial blocks allow")
		}
		q.open, q.unit, q.at = claim{}, "", 0
	}
	q.store(r.st, lot)
}
