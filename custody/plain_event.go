package custody

import (
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// plainFields tells where the field of a name is put: a *string, *Digest,
// *jsontext.Value, **Chain or **Where, others where the field takes the strict reader, nil when there is no such
// field.
type plainFields interface {
	plainField(name []byte) any
}

// others are the fields that only the strict reader reads.
type others struct{}

// plainEvent reads an event predicate of plain spelling that scanJSON has accepted,
// if all its fields are of the common kinds; text is raw as a string, or empty. After a
// false, e and body are in between and must not be used.
func plainEvent(raw []byte, text string, ledger *string, e *Event, body plainFields) bool {
	p := plain{b: raw, all: text, mode: scanFrame}
	return p.take('{') && p.members(false, func(name []byte) bool {
		at := any(ledger)
		if string(name) != "ledger" {
			if at = e.plainField(name); at == nil {
				at = body.plainField(name)
			}
		}
		return p.into(at)
	}) && p.end()
}

// into reads the value of a field.
func (p *plain) into(at any) (ok bool) {
	switch at := at.(type) {
	case nil: // unknown fields are ignored
		return p.value(other, 1, false)
	case *string:
		*at, ok = p.text()
		return ok
	case *Digest:
		return p.digest(at)
	case *jsontext.Value: // it shares memory with what is read
		p.peek()
		from := p.at
		ok = p.value(other, 1, true)
		*at = p.b[from:p.at:p.at]
		return ok
	case **Chain:
		*at = new(Chain)
		return p.chain(*at)
	case **Where:
		*at = new(Where)
		return p.take('{') && p.members(false, func(name []byte) bool { return p.into((*at).plainField(name)) })
	}
	return false
}

func (p *plain) digest(d *Digest) bool {
	return p.take('{') && p.members(false, func(name []byte) (ok bool) {
		d.SHA256, ok = p.text()
		return ok && string(name) == "sha256"
	})
}

// plainChain reads a chain of plain spelling that has all it must.
func plainChain(b []byte) (c Chain, ok bool) {
	p := plain{b: b, mode: scanFrame}
	ok = p.chain(&c) && p.end()
	return c, ok
}

func (p *plain) chain(c *Chain) bool {
	var seq, prev bool
	ok := p.take('{') && p.members(false, func(name []byte) bool {
		next := p.peek()
		switch string(name) {
		case "seq":
			seq = true
			from := p.at
			if next != '-' && (next < '0' || next > '9') || !p.integer() {
				return false
			}
			n, err := strconv.ParseInt(string(p.b[from:p.at]), 10, 64)
			c.Seq = n
			return err == nil
		case "prev":
			prev = true
			if next == 'n' {
				return p.word("null")
			}
			c.Prev = new(Digest)
			return p.digest(c.Prev)
		}
		return false
	})
	return ok && seq && prev
}

func (e *Event) plainField(name []byte) any {
	switch string(name) {
	case "eventId":
		return &e.EventID
	case "occurredAt":
		return &e.OccurredAt
	case "actor":
		return &e.Actor
	case "role":
		return &e.Role
	case "load":
		return &e.Load
	case "chain":
		return &e.Chain
	case "where":
		return &e.Where
	case "ext":
		return &e.Ext
	case "evidence", "epcis", "sealed", "device":
		return others{}
	}
	return nil
}

func (w *Where) plainField(name []byte) any {
	switch string(name) {
	case "site":
		return &w.Site
	case "locode":
		return &w.Locode
	case "country":
		return &w.Country
	case "geo":
		return &w.Geo
	}
	return nil
}

func (b *Commission) plainField(name []byte) any {
	switch string(name) {
	case "kind":
		return &b.UnitKind
	case "model":
		return &b.Model
	case "lot":
		return &b.Lot
	case "pedigree":
		return &b.Pedigree
	case "identity", "contents":
		return others{}
	}
	return nil
}

func (b *Release) plainField(name []byte) any {
	switch string(name) {
	case "from":
		return &b.From
	case "to":
		return &b.To
	case "acceptBy":
		return &b.AcceptBy
	case "lane", "transport", "seals":
		return others{}
	}
	return nil
}

func (b *Accept) plainField(name []byte) any {
	switch string(name) {
	case "accepts":
		return &b.Accepts
	case "condition":
		return &b.Condition
	case "counted", "discrepancies", "seals":
		return others{}
	}
	return nil
}

func (b *Install) plainField(name []byte) any {
	if string(name) == "acceptance" {
		return &b.Acceptance
	}
	return nil
}

func (b *Sighting) plainField(name []byte) any {
	if string(name) == "method" {
		return &b.Method
	}
	return nil
}
