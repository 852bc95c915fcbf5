package custody

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"unicode/utf8"

	"fabtrail.dev/fabtrail/custody/gs1"
)

// Values of enumerated fields that code refers to.
const (
	ActionSucceed = "succeed"
	ActionFreeze  = "freeze"
	ActionRotate  = "rotate"
	ActionRevoke  = "revoke"
	ActionOpen    = "open"
	ActionClose   = "close"
	ActionAdd     = "add"
	ActionRemove  = "remove"

	// MaxLevel is the highest level of a load.
	MaxLevel = 8
)

// The enumerations of version 1.
var (
	unitKinds       = []string{"wafer", "chip", "component", "module", "board", "device", "accessory"}
	identityStates  = []string{"bootstrap", "registered", "operational", "renewed", "suspended", "revoked"}
	qaResults       = []string{"PASSED", "WARNED", "FAILED"}
	sealChecks      = []string{"applied", "intact", "broken", "mismatch", "missing"}
	transportModes  = []string{"road", "air", "sea", "rail"}
	sightingMethods = []string{"scan", "rfid", "telemetry"}
	holdReasons     = []string{"quarantine", "suspect", "stolen", "regulatory"}
	retireReasons   = []string{"endOfLife", "destroyed", "lost", "stolen", "exported"}
	voidReasons     = []string{"did_not_occur", "incorrect_data"}
	findingTiers    = []string{"contradiction", "policy", "geography", "time"}
	findingPhases   = []string{"provisional", "confirmed", "withdrawn"}
)

// Limits of lists in governance statements.
const (
	maxAuthorities = 8 // every one signs the charter
	maxPartyKeys   = 7 // every one signs, beside an authority
	maxSites       = 1000
	maxSerials     = 10_000
	maxParties     = 500
	maxSteps       = 500
	maxGTINs       = 500
	maxPolicyText  = 16 << 10
)

func (b *Charter) check(c *checker, s *Statement) {
	if c.err == nil && LogURIPrefix+b.Origin != s.Subject {
		c.fail("/origin", "the origin %q is not that of the subject", clip(b.Origin)).WithHint("the subject is %s<origin>", LogURIPrefix)
	}
	s.introduced = c.authorities("/authorities", b.Authorities, b.Threshold)
	c.party("/operator/party", b.Operator.Party)
	op := c.key("/operator/key/spki", b.Operator.Key.SPKI)
	if c.err == nil && slices.ContainsFunc(s.introduced, func(k Key) bool { return k.Hash == op.Hash }) {
		c.fail("/operator/key", "the operator's key is an authority's key").WithHint("use a key of its own: the operator's lies on the server")
	}
	b.Operator.Key.check(c, "/operator/key")
	b.RuleSet.check(c, "/ruleSet")
	c.time("/createdAt", b.CreatedAt)
}

// authorities checks a set of authorities and returns their keys.
func (c *checker) authorities(field string, as []Authority, threshold int64) []Key {
	c.count(field, int64(len(as)), 1, maxAuthorities)
	parties := map[string]bool{}
	var keys []Key
	for i, a := range as {
		if c.err != nil {
			return nil
		}
		f := pointer(field, i)
		c.party(f+"/party", a.Party)
		parties[a.Party] = true
		a.Key.check(c, f+"/key")
		keys = append(keys, c.key(f+"/key/spki", a.Key.SPKI))
	}
	c.distinctKeys(field, keys)
	if c.err == nil && (threshold < 1 || threshold > int64(len(parties))) {
		c.fail(strings.TrimSuffix(field, "/authorities")+"/threshold", "the threshold is %d, want 1 to %d (distinct parties)", threshold, len(parties))
	}
	return keys
}

func (c *checker) distinctKeys(field string, keys []Key) {
	if c.err != nil {
		return
	}
	for i, k := range keys {
		for _, other := range keys[:i] {
			if bytes.Equal(k.SPKI, other.SPKI) {
				c.fail(pointer(field, i), "key %s stands here twice", k.Hash)
				return
			}
		}
	}
}

// check judges the words of a key record; its key is checked by checker.key.
func (r KeyRecord) check(c *checker, field string) {
	c.optionalWord(field+"/use", r.Use)
	c.optionalWord(field+"/protection", r.Protection)
}

func (r *RuleSetRef) check(c *checker, field string) {
	c.text(field+"/version", r.Version, 64)
	c.digest(field+"/rules/sha256", r.Rules.SHA256)
	c.digest(field+"/geodata/sha256", r.Geodata.SHA256)
}

func (b *AuthorityChange) check(c *checker, s *Statement) {
	s.introduced = c.authorities("/authorities", b.Authorities, b.Threshold)
}

func (b *LogKey) check(c *checker, s *Statement) {
	c.oneOf("/action", b.Action, ActionSucceed, ActionFreeze)
	if c.err != nil {
		return
	}
	switch {
	case b.Action == ActionFreeze && b.VKey != "":
		c.fail("/vkey", "a freeze names no key")
	case b.Action == ActionSucceed && !isLogVKey(b.VKey, strings.TrimPrefix(s.Subject, LogURIPrefix)):
		c.fail("/vkey", "%q is not an Ed25519 note verifier key of this log", clip(b.VKey)).
			WithHint("write origin+hash+base64 as signed notes do")
	}
}

// isLogVKey reports whether s is a C2SP signed-note verifier key of type Ed25519
// (0x01) whose name is origin and whose key id is right.
func isLogVKey(s, origin string) bool {
	rest, ok := strings.CutPrefix(s, origin+"+")
	if !ok {
		return false
	}
	id, b64, ok := strings.Cut(rest, "+")
	if !ok || len(id) != 8 {
		return false
	}
	key, err := decodeBase64(b64)
	if err != nil || len(key) != 33 || key[0] != 1 {
		return false
	}
	h := sha256.Sum256(append([]byte(origin+"\n"), key...))
	return id == hex.EncodeToString(h[:4]) && checkEd25519(key[1:]) == nil
}

func (b *WitnessPolicy) check(c *checker, _ *Statement) {
	if c.err != nil {
		return
	}
	if b.Policy == "" || len(b.Policy) > maxPolicyText || !utf8.ValidString(b.Policy) ||
		strings.ContainsFunc(b.Policy, func(r rune) bool { return r < ' ' && r != '\n' && r != '\t' || r == 0x7f }) {
		c.fail("/policy", "the policy is not 1 to %d bytes of text", maxPolicyText).WithHint("it is the whole text of policy.txt")
	}
}

func (b *RuleSet) check(c *checker, _ *Statement) { b.RuleSetRef.check(c, "") }

func (b *Party) check(c *checker, s *Statement) {
	c.text("/legalName", b.LegalName, 256)
	c.count("/roles", int64(len(b.Roles)), 1, int64(len(Roles)))
	for i, r := range b.Roles {
		c.oneOf(pointer("/roles", i), r, Roles...)
	}
	c.distinct("/roles", b.Roles)
	c.count("/sites", int64(len(b.Sites)), 0, maxSites)
	ids := make([]string, 0, len(b.Sites))
	for i, site := range b.Sites {
		if c.err != nil {
			return
		}
		f := pointer("/sites", i)
		c.id(f+"/id", site.ID, gs1.Site)
		c.country(f+"/country", site.Country)
		c.locode(f+"/locode", site.Locode)
		c.geo(f+"/geo", site.Geo)
		ids = append(ids, site.ID)
	}
	c.distinct("/sites", ids)
	c.count("/keys", int64(len(b.Keys)), 0, maxPartyKeys)
	for i, k := range b.Keys {
		if c.err != nil {
			return
		}
		f := pointer("/keys", i)
		k.check(c, f)
		s.introduced = append(s.introduced, c.key(f+"/spki", k.SPKI))
	}
	c.distinctKeys("/keys", s.introduced)
}

func (b *KeyChange) check(c *checker, s *Statement) {
	c.oneOf("/action", b.Action, ActionRotate, ActionRevoke)
	c.digest("/key/sha256", b.Key.SHA256)
	c.optionalText("/reason", b.Reason, 256)
	c.optionalTime("/compromisedSince", b.CompromisedSince)
	if c.err != nil {
		return
	}
	if (b.Action == ActionRotate) != (b.New != nil) {
		c.fail("/new", "a rotation names the new key, and a revocation names none")
		return
	}
	if b.New != nil {
		b.New.check(c, "/new")
		k := c.key("/new/spki", b.New.SPKI)
		s.introduced = []Key{k}
		if c.err == nil && k.ID() == b.Key.SHA256 {
			c.fail("/new", "the new key is the old one")
		}
		if b.CompromisedSince != "" {
			c.fail("/compromisedSince", "a compromised key is revoked, not rotated")
		}
	}
}

func (b *Product) check(c *checker, _ *Statement) {
	c.party("/owner", b.Owner)
	c.optionalText("/name", b.Name, 256)
	c.optionalOneOf("/kind", b.Kind, unitKinds...)
}

func (b *Recall) check(c *checker, s *Statement) {
	c.party("/actor", b.Actor)
	c.oneOf("/action", b.Action, ActionOpen, ActionClose)
	c.optionalText("/reason", b.Reason, 1024)
	c.optionalText("/remedy", b.Remedy, 1024)
	c.optionalText("/advisory", b.Advisory, 512)
	if c.err != nil {
		return
	}
	if (b.Action == ActionClose) != (b.Closes != nil) {
		c.fail("/closes", "a closing recall names the one that it ends, an opening one names none")
		return
	}
	if b.Closes != nil {
		c.digest("/closes/sha256", b.Closes.SHA256)
	}
	b.Selector.check(c, s.Subject)
}

// check judges that the selector says what the subject says.
func (sel *Selector) check(c *checker, subject string) {
	var uris []string
	if sel.Unit != "" {
		c.id("/selector/unit", sel.Unit, gs1.Unit)
		uris = append(uris, sel.Unit)
	}
	if sel.Product != "" {
		uris = append(uris, ProductURI(sel.Product))
		c.gtin("/selector/product", sel.Product)
	}
	if sel.Lot != "" {
		c.id("/selector/lot", sel.Lot, gs1.Lot)
		uris = append(uris, sel.Lot)
	}
	if sel.Artefact != nil {
		c.digest("/selector/artefact/sha256", sel.Artefact.SHA256)
		uris = append(uris, ArtefactURIPrefix+sel.Artefact.SHA256)
	}
	if c.err != nil {
		return
	}
	switch {
	case len(uris) != 1:
		c.fail("/selector", "the selector names %d things, want exactly one of unit, product, lot, artefact", len(uris))
	case uris[0] != subject:
		c.fail("/selector", "the selector does not name the subject").WithHint("it names %s", uris[0])
	case (sel.Artefact != nil) != (len(sel.GTINs) > 0):
		c.fail("/selector/gtins", "products are named with an artefact, and only then")
	}
	c.count("/selector/gtins", int64(len(sel.GTINs)), 0, maxGTINs)
	for i, g := range sel.GTINs {
		c.gtin(pointer("/selector/gtins", i), g)
	}
	c.distinct("/selector/gtins", sel.GTINs)
}

func (c *checker) gtin(field, v string) {
	if c.err != nil {
		return
	}
	full, err := gs1.ParseGTIN(v)
	if err != nil {
		c.problem(err, field)
	} else if full != v {
		c.fail(field, "a GTIN is written with 14 digits here").WithHint("write %s", full)
	}
}

// ProductURI is the canonical URI of a GTIN-14.
func ProductURI(gtin string) string { return "https://id.gs1.org/01/" + gtin }

func (b *SerialBlock) check(c *checker, _ *Statement) {
	c.party("/actor", b.Actor)
	c.parties("/commissioners", b.Commissioners, maxParties)
	c.countries("/countries", b.Countries)
	if c.err == nil && (len(b.Serials) > 0) == (b.Count > 0) {
		c.fail("/serials", "a block lists its serials or gives their count, one of the two")
	}
	c.count("/serials", int64(len(b.Serials)), 0, maxSerials)
	c.count("/count", b.Count, 0, MaxInteger)
	for i, s := range b.Serials {
		if c.err != nil {
			return
		}
		c.serial(pointer("/serials", i), s)
	}
	c.distinct("/serials", b.Serials)
}

// serial checks the value of AI 21 (or 10) as data, not percent-encoded.
func (c *checker) serial(field, v string) {
	if c.err != nil {
		return
	}
	ok := v != "" && len(v) <= 20
	for i := 0; ok && i < len(v); i++ {
		ok = gs1.InCharset82(v[i])
	}
	if !ok {
		c.fail(field, "%q is not a serial or lot number", clip(v)).
			WithHint("1 to 20 characters of the GS1 AI encodable character set 82")
	}
}

func (c *checker) lotNumber(field, v string) { c.serial(field, v) }

func (b *RoutePolicy) check(c *checker, _ *Statement) {
	c.party("/actor", b.Actor)
	c.count("/steps", int64(len(b.Steps)), 1, maxSteps)
	ids := make([]string, 0, len(b.Steps))
	for i, st := range b.Steps {
		if c.err != nil {
			return
		}
		f := pointer("/steps", i)
		c.word(f+"/id", st.ID)
		c.parties(f+"/from", st.From, maxParties)
		c.parties(f+"/to", st.To, maxParties)
		c.countries(f+"/countries", st.Countries)
		for j, m := range st.Modes {
			c.oneOf(pointer(f+"/modes", j), m, transportModes...)
		}
		c.distinct(f+"/modes", st.Modes)
		c.count(f+"/maxHours", st.MaxHours, 0, 24*366)
		ids = append(ids, st.ID)
	}
	c.distinct("/steps", ids)
}
