package custody

import (
	"fabtrail.dev/fabtrail/custody/gs1"
)

// Limits of lists in statements.
const (
	maxEvidence   = 32
	maxSeals      = 100
	maxComponents = 1000
	maxTests      = 200
	maxUnits      = 1000
)

// body is what every predicate's body does: check its own fields. The statement's
// other parts are set already.
type body interface {
	check(c *checker, s *Statement)
}

// check judges the common fields.
func (e *Event) check(c *checker, s *Statement, info *KindInfo, on Subjects) {
	if c.err == nil && !isEventID(e.EventID) {
		c.fail("/eventId", "%q is not an event id", clip(e.EventID)).
			WithHint("write urn:uuid: and a UUID of version 7 in lower case")
	}
	c.time("/occurredAt", e.OccurredAt)
	c.party("/actor", e.Actor)
	c.optionalOneOf("/role", e.Role, Roles...)
	e.checkLoad(c, info, on)
	e.checkChain(c, info)
	if e.Where != nil {
		e.Where.check(c, s.Kind)
	}
	c.count("/evidence", int64(len(e.Evidence)), 0, maxEvidence)
	for i, ev := range e.Evidence {
		f := pointer("/evidence", i)
		c.optionalText(f+"/name", ev.Name, 256)
		c.optionalText(f+"/mediaType", ev.MediaType, 128)
		c.digest(f+"/digest/sha256", ev.Digest.SHA256)
	}
	if e.EPCIS != nil {
		c.optionalText("/epcis/eventId", e.EPCIS.EventID, 512)
		c.optionalText("/epcis/hashId", e.EPCIS.HashID, 256)
	}
	for _, g := range SealedGroups() {
		if ref, ok := e.Sealed[g]; ok {
			c.oneOf("/sealed/"+g+"/alg", ref.Alg, SealedAlg)
			c.digest("/sealed/"+g+"/digest", ref.Digest)
		}
	}
	if e.Device != nil {
		c.base64("/device/sig", e.Device.Sig, 1024)
	}
	if c.err == nil && len(e.Ext) > 0 && e.Ext.Kind() != '{' {
		c.fail("/ext", "ext is not an object")
	}
}

// checkLoad: load stands exactly where the unit is a load.
func (e *Event) checkLoad(c *checker, info *KindInfo, on Subjects) {
	if c.err != nil {
		return
	}
	if e.Load != "" {
		if on != OnContainer {
			c.fail("/load", "the subject is a %s and has no load", on).WithHint("leave load out")
			return
		}
		c.digest("/load", e.Load)
		return
	}
	if on == OnContainer && info.Load == loadRequired {
		c.fail("/load", "the subject is a container: the statement must name its load").
			WithHint("give the ID of the pack that opened the load")
	}
}

// checkChain: chained predicates carry seq 0 with prev null, or seq >= 1 with a
// prev; the others carry seq -1 and prev null. Whatever speaks of a load comes
// after its opening.
func (e *Event) checkChain(c *checker, info *KindInfo) {
	if c.err != nil {
		return
	}
	ch := e.Chain
	switch {
	case ch == nil:
		c.fail("/chain", "the chain is missing")
	case !info.Chained && (ch.Seq != -1 || ch.Prev != nil):
		c.fail("/chain", "%s does not chain", info.Kind.Noun()).WithHint(`write "chain":{"seq":-1,"prev":null}`)
	case !info.Chained:
	case ch.Seq < 0:
		c.fail("/chain/seq", "seq is %d, %s chains", ch.Seq, info.Kind.Noun()).WithHint("seq counts the unit's statements from 0")
	case (ch.Seq == 0) != (ch.Prev == nil):
		c.fail("/chain", "seq is %d, prev is null: %t; a unit's first statement, and no other, has seq 0 and prev null", ch.Seq, ch.Prev == nil)
	case ch.Prev != nil:
		c.digest("/chain/prev/sha256", ch.Prev.SHA256)
	case e.Load != "":
		c.fail("/chain/prev", "the statement names a load and no previous statement").
			WithHint("the first statement of a load is the pack that opened it")
	}
}

func (w *Where) check(c *checker, k Kind) {
	if w.Site != "" {
		c.id("/where/site", w.Site, gs1.Site)
	}
	c.locode("/where/locode", w.Locode)
	if w.Country != "" {
		c.country("/where/country", w.Country)
	}
	g := c.geo("/where/geo", w.Geo)
	if c.err == nil && w.Geo != "" && (k == KindInstall || k == KindUninstall) && !g.coarse() {
		c.problem(mustSeal("", "the exact place of an installation stands in a sealed group only"), "/where/geo")
		c.err.Hint = "round to two decimals and state at least 1000 m, such as geo:52.52,13.40;u=1000; seal the exact place"
	}
}

func (b *Commission) check(c *checker, s *Statement) {
	c.oneOf("/kind", b.UnitKind, unitKinds...)
	c.optionalText("/model", b.Model, 128)
	if b.Lot != "" {
		c.lotNumber("/lot", b.Lot)
	}
	if b.Pedigree != "" {
		c.digest("/pedigree", b.Pedigree)
	}
	if b.Identity != nil {
		s.device = c.key("/identity/spki", b.Identity.SPKI)
		c.optionalWord("/identity/keyOrigin", b.Identity.KeyOrigin)
		c.optionalWord("/identity/keyProtection", b.Identity.KeyProtection)
	}
	if c.err != nil {
		return
	}
	id, err := gs1.ParseCanonical(s.Subject)
	c.problem(err, "/subject")
	switch {
	case s.Event.Chain.Seq != 0:
		c.fail("/chain", "a commission is its unit's first statement").WithHint(`write "chain":{"seq":0,"prev":null}`)
	case id.Kind == gs1.Lot && b.Contents == nil:
		c.fail("/contents", "the subject is a lot: the units are missing").
			WithHint("name a manifest in contents, or make the subject one unit")
	case id.Kind == gs1.Lot && (b.Identity != nil || b.Pedigree != ""):
		c.fail("", "a device key or pedigree digest belongs to one unit").
			WithHint("pedigree digests stand in the manifest; keys are bound by an identity statement each")
	case id.Kind == gs1.Lot && b.Lot != "" && b.Lot != id.Ext:
		c.fail("/lot", "the lot %q is not the subject's lot", b.Lot)
	case id.Kind != gs1.Lot && b.Contents != nil:
		c.fail("/contents", "the subject is one unit and has no contents").WithHint("make the subject the lot")
	case b.Identity != nil && s.Event.Device == nil:
		c.fail("/device", "a device key is bound and the device did not sign").
			WithHint("let the device sign with that very key")
	}
	if b.Contents != nil {
		b.Contents.check(c)
	}
}

// check judges the name of a manifest.
func (k *Contents) check(c *checker) {
	c.digest("/contents/manifest", k.Manifest)
	c.digest("/contents/root", k.Root)
	c.count("/contents/count", k.Count, 1, MaxMembers)
}

func (b *Identity) check(c *checker, s *Statement) {
	c.oneOf("/state", b.State, identityStates...)
	if b.SPKI != "" {
		s.device = c.key("/spki", b.SPKI)
		if c.err == nil && s.Event.Device == nil {
			c.fail("/device", "a device key is bound and the device did not sign").
				WithHint("let the device sign with that very key")
		}
	}
	if b.CertSHA256 != "" {
		c.digest("/certSha256", b.CertSHA256)
	}
	c.optionalTime("/validUntil", b.ValidUntil)
	if c.err == nil && b.State == "bootstrap" && b.SPKI == "" {
		c.fail("/spki", "the key to bootstrap with is missing")
	}
}

func (b *Assemble) check(c *checker, s *Statement) {
	c.oneOf("/action", b.Action, ActionAdd, ActionRemove)
	c.count("/components", int64(len(b.Components)), 1, maxComponents)
	seen := map[string]bool{s.Subject: true}
	for i, p := range b.Components {
		if c.err != nil {
			return
		}
		f := pointer("/components", i)
		switch {
		case (p.URI == "") == (p.Lot == ""):
			c.fail(f, "a component is either a serialised unit (uri) or a quantity of a lot (lot)")
		case p.URI != "":
			c.id(f+"/uri", p.URI, gs1.Unit)
			if p.Head == nil {
				c.fail(f+"/head", "the component's latest statement is missing").WithHint("give its ID")
			} else {
				c.digest(f+"/head/sha256", p.Head.SHA256)
			}
			if p.Quantity > 1 || p.Quantity < 0 {
				c.fail(f+"/quantity", "a serialised unit is one")
			}
		default:
			c.id(f+"/lot", p.Lot, gs1.Lot)
			c.count(f+"/quantity", p.Quantity, 1, MaxInteger)
			if p.Head != nil {
				c.fail(f+"/head", "a lot has no head")
			}
		}
		c.optionalText(f+"/position", p.Position, 64)
		if p.URI != "" && seen[p.URI] {
			c.fail(f+"/uri", "%s stands here twice, or is the subject itself", p.URI)
		}
		seen[p.URI] = true
	}
}

func (b *FirmwareLoad) check(c *checker, _ *Statement) {
	c.digest("/image/sha256", b.Image.SHA256)
	c.text("/version", b.Version, 128)
	c.optionalWord("/slot", b.Slot)
	if b.SBOM != nil {
		c.digest("/sbom/sha256", b.SBOM.SHA256)
	}
}

func (b *QAResult) check(c *checker, _ *Statement) {
	c.oneOf("/result", b.Result, qaResults...)
	c.texts("/passedTests", b.PassedTests, maxTests)
	c.texts("/failedTests", b.FailedTests, maxTests)
}

func (b *Pack) check(c *checker, s *Statement) {
	b.Contents.check(c)
	c.seals(b.Seals)
	if c.err != nil {
		return
	}
	opens := s.Event.Chain.Prev == nil
	switch {
	case opens && s.Event.Load != "", !opens && s.Event.Load == "":
		c.fail("/load", "a pack opens a load (prev null, no load) or adds to one (prev and load)")
	case opens && (b.Level < 1 || b.Level > MaxLevel):
		c.fail("/level", "the level is %d, want 1 to %d", b.Level, MaxLevel).
			WithHint("1 holds units only; a load holds loads of lower levels")
	case !opens && b.Level != 0:
		c.fail("/level", "the level is signed by the pack that opens the load")
	}
}

func (b *Unpack) check(c *checker, _ *Statement) {
	b.Contents.check(c)
	c.seals(b.Seals)
}

func (c *checker) seals(seals []Seal) {
	c.count("/seals", int64(len(seals)), 0, maxSeals)
	for i, s := range seals {
		f := pointer("/seals", i)
		c.text(f+"/number", s.Number, 64)
		c.optionalText(f+"/issuer", s.Issuer, MaxURI)
		c.optionalText(f+"/standard", s.Standard, 64)
		c.optionalOneOf(f+"/check", s.Check, sealChecks...)
	}
}

func (b *Release) check(c *checker, s *Statement) {
	c.party("/from", b.From)
	c.party("/to", b.To)
	c.optionalTime("/acceptBy", b.AcceptBy)
	if b.Lane != nil {
		c.digest("/lane/policy/sha256", b.Lane.Policy.SHA256)
		c.word("/lane/step", b.Lane.Step)
	}
	if b.Transport != nil {
		c.optionalOneOf("/transport/mode", b.Transport.Mode, transportModes...)
		c.optionalText("/transport/equipment", b.Transport.Equipment, MaxURI)
	}
	c.seals(b.Seals)
	if c.err == nil && b.From != s.Event.Actor {
		c.fail("/from", "from is not the actor").WithHint("who releases signs")
	}
	if c.err == nil && b.From == b.To {
		c.fail("/to", "a unit is not released to its holder")
	}
}

func (b *Accept) check(c *checker, _ *Statement) {
	c.digest("/accepts/sha256", b.Accepts.SHA256)
	c.optionalWord("/condition", b.Condition)
	if b.Counted != nil {
		c.optionalWord("/counted/level", b.Counted.Level)
		c.count("/counted/expected", b.Counted.Expected, 0, MaxInteger)
		c.count("/counted/actual", b.Counted.Actual, 0, MaxInteger)
	}
	c.texts("/discrepancies", b.Discrepancies, maxSeals)
	c.seals(b.Seals)
}

func (b *Refuse) check(c *checker, _ *Statement) {
	c.digest("/refuses/sha256", b.Refuses.SHA256)
	c.text("/reason", b.Reason, 256)
}

func (b *Sighting) check(c *checker, _ *Statement) {
	c.oneOf("/method", b.Method, sightingMethods...)
}

func (b *Ownership) check(c *checker, s *Statement) {
	c.party("/from", b.From)
	c.party("/to", b.To)
	c.optionalText("/basis", b.Basis, 256)
	if c.err == nil && b.From == b.To {
		c.fail("/to", "title does not pass from a party to itself")
	}
	if c.err == nil && s.Event.Actor != b.From && s.Event.Actor != b.To {
		c.fail("/actor", "the actor is neither from nor to")
	}
}

func (b *Install) check(c *checker, _ *Statement) { c.optionalWord("/acceptance", b.Acceptance) }

func (b *Uninstall) check(c *checker, _ *Statement) {
	c.party("/to", b.To)
	c.optionalText("/reason", b.Reason, 256)
}

func (b *Hold) check(c *checker, _ *Statement) {
	c.oneOf("/reason", b.Reason, holdReasons...)
	c.optionalText("/note", b.Note, 512)
}

func (b *Lift) check(c *checker, _ *Statement) {
	c.digest("/lifts/sha256", b.Lifts.SHA256)
	c.optionalText("/reason", b.Reason, 256)
}

func (b *Retire) check(c *checker, _ *Statement) { c.oneOf("/reason", b.Reason, retireReasons...) }

func (b *Void) check(c *checker, _ *Statement) {
	c.digest("/voids/sha256", b.Voids.SHA256)
	c.oneOf("/reason", b.Reason, voidReasons...)
	if b.CorrectedBy != nil {
		c.digest("/correctedBy/sha256", b.CorrectedBy.SHA256)
	}
}

func (b *Dispute) check(c *checker, _ *Statement) {
	c.digest("/disputes/sha256", b.Disputes.SHA256)
	c.text("/claim", b.Claim, 1024)
}

func (b *Finding) check(c *checker, _ *Statement) {
	c.word("/rule", b.Rule)
	c.oneOf("/tier", b.Tier, findingTiers...)
	c.oneOf("/phase", b.Phase, findingPhases...)
	if c.err == nil {
		if on, err := SubjectOf(b.Accused); err != nil {
			c.problem(err, "/accused")
		} else if on&(OnParty|OnLog) == 0 {
			c.fail("/accused", "a finding accuses a party, or the log's operator").WithHint("name the log's URI for the operator")
		}
	}
	c.count("/units", int64(len(b.Units)), 1, maxUnits)
	for i, u := range b.Units {
		f := pointer("/units", i)
		id := c.id(f+"/uri", u.URI, gs1.Unit, gs1.Container)
		if c.err == nil && (id.Kind == gs1.Container) != (u.Load != "") {
			c.fail(f+"/load", "a container is named with its load, and nothing else is")
		}
		if u.Load != "" {
			c.digest(f+"/load", u.Load)
		}
	}
	c.count("/entries", int64(len(b.Evidence)), 1, maxUnits)
	for i := 1; i < len(b.Evidence); i++ {
		if c.err == nil && b.Evidence[i] <= b.Evidence[i-1] {
			c.fail(pointer("/entries", i), "entry indexes are strictly ascending")
		}
	}
	c.digest("/findingId", b.ID)
	c.text("/ruleSet", b.RuleSet, 64)
	c.optionalText("/words", b.Words, 2048)
}
