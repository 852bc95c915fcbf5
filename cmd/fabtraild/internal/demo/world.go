package demo

import (
	"fmt"
	"slices"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/custody/gs1"
)

// Everything here is fictional, under GS1's example company prefix 9506000. The
// places are real.

// place is where a party has a site. Positions are what ParseGeo reads.
type place struct {
	city, country, locode string
	lat, lon              int // hundredths of a degree
}

func (p place) geo() string { return p.at(0, 0, 500) }

// at is a position some hundredths of a degree away, known to so many metres.
func (p place) at(dlat, dlon, metres int) string {
	return fmt.Sprintf("geo:%s,%s;u=%d", cents(p.lat+dlat), cents(p.lon+dlon), metres)
}

func cents(n int) string {
	sign := ""
	if n < 0 {
		sign, n = "-", -n
	}
	return fmt.Sprintf("%s%d.%02d", sign, n/100, n%100)
}

// role is what a party does in the story.
type role struct {
	slug, name string
	roles      []string
	place      place
	alg        custody.Algorithm
}

// region is a market: where a lot may be sold, and who works there.
type region struct {
	slug, lot  string
	countries  []string
	dist       string
	installers [2]string
	service    string
	trader     string // buys surplus, where the lot may be sold
	sea        bool   // goods come by sea, else by air
}

const (
	ed  = custody.Ed25519
	p2  = custody.ECDSAP256
	p3  = custody.ECDSAP384
	rsa = custody.RSAPSS
)

func is(roles ...string) []string { return roles }

// cast lists who takes part, in the order of their numbers.
var cast = []role{
	{"council", "Hardware Provenance Council", nil, place{"Geneva", "CH", "CHGVA", 4620, 614}, ed},
	{"registry", "Customs Registry Cooperative", nil, place{"Brussels", "BE", "BEBRU", 5085, 435}, p2},
	{"makers-guild", "Component Makers' Guild", nil, place{"Singapore", "SG", "SGSIN", 129, 10385}, ed},

	{"fab", "Hsin Foundry Works", is(custody.RoleMaker), place{"Hsinchu", "TW", "", 2477, 12101}, p2},
	{"osat", "Penang Assembly and Test", is(custody.RoleMaker), place{"Penang", "MY", "MYPEN", 530, 10027}, ed},
	{"radio-maker", "Suwon Radio Modules", is(custody.RoleMaker), place{"Suwon", "KR", "", 3726, 12703}, ed},
	{"sensor-maker", "Elbe Sensorik", is(custody.RoleMaker), place{"Dresden", "DE", "DEDRS", 5113, 1375}, p3},
	{"factory", "Red River Electronics", is(custody.RoleMaker), place{"Haiphong", "VN", "VNHPH", 2085, 10668}, ed},
	{"second-factory", "Mekong Contract Assembly", is(custody.RoleMaker), place{"Ho Chi Minh City", "VN", "VNSGN", 1082, 10663}, p2},
	{"brand", "Lumen Controls", is(custody.RoleBrand), place{"Eindhoven", "NL", "NLEIN", 5144, 547}, p2},
	{"registrar", "Polder Device Registry", is(custody.RoleRegistrar), place{"Utrecht", "NL", "NLUTC", 5209, 512}, ed},

	{"road", "Straight Road Haulage", is(custody.RoleCarrier), place{"Haiphong", "VN", "VNHPH", 2087, 10670}, ed},
	{"air", "Meridian Air Cargo", is(custody.RoleCarrier), place{"Singapore", "SG", "SGSIN", 136, 10399}, p3},
	{"sea", "Blue Lane Shipping", is(custody.RoleCarrier), place{"Singapore", "SG", "SGSIN", 126, 10383}, rsa},

	{"dist-eu", "Maas Distribution", is(custody.RoleDistributor), place{"Rotterdam", "NL", "NLRTM", 5192, 448}, p2},
	{"dist-us", "Great Lakes Supply", is(custody.RoleDistributor), place{"Chicago", "US", "USCHI", 4188, -8763}, ed},
	{"dist-br", "Porto Distribuidora", is(custody.RoleDistributor), place{"Santos", "BR", "BRSSZ", -2396, -4633}, p3},

	{"berlin", "Spree Gebäudetechnik", is(custody.RoleInstaller), place{"Berlin", "DE", "DEBER", 5252, 1340}, ed},
	{"lyon", "Rhône Domotique", is(custody.RoleInstaller), place{"Lyon", "FR", "FRLIO", 4576, 484}, p2},
	{"denver", "Front Range Controls", is(custody.RoleInstaller), place{"Denver", "US", "USDEN", 3974, -10499}, ed},
	{"dallas", "Lone Star Automation", is(custody.RoleInstaller), place{"Dallas", "US", "USDAL", 3278, -9680}, ed},
	{"sao-paulo", "Paulista Instalações", is(custody.RoleInstaller), place{"São Paulo", "BR", "BRSAO", -2355, -4663}, ed},
	{"curitiba", "Iguaçu Automação", is(custody.RoleInstaller), place{"Curitiba", "BR", "BRCWB", -2543, -4927}, p2},

	{"repair-eu", "Rhein Refurbishing", is(custody.RoleService), place{"Cologne", "DE", "DECGN", 5094, 696}, ed},
	{"repair-us", "Prairie Repair", is(custody.RoleService), place{"Omaha", "US", "USOMA", 4126, -9594}, ed},
	{"repair-br", "Oficina Bandeirante", is(custody.RoleService), place{"Campinas", "BR", "BRCPQ", -2291, -4706}, ed},

	{"trader-eu", "Scheldt Surplus", is(custody.RoleDistributor), place{"Antwerp", "BE", "BEANR", 5122, 440}, ed},
	{"trader-us", "Gateway Surplus", is(custody.RoleDistributor), place{"Miami", "US", "USMIA", 2576, -8019}, ed},
	{"trader-br", "Amazonas Excedentes", is(custody.RoleDistributor), place{"Manaus", "BR", "BRMAO", -312, -6002}, ed},
	{"buyer-ae", "Free Zone Trading", is(custody.RoleDistributor), place{"Dubai", "AE", "AEDXB", 2520, 5527}, ed},
	{"buyer-ng", "Lagoon Electronics Market", is(custody.RoleDistributor), place{"Lagos", "NG", "NGLOS", 652, 337}, ed},

	{"auditor", "Open Audit Collective", is(custody.RoleAuditor), place{"Oslo", "NO", "NOOSL", 5991, 1075}, ed},
}

// authorities are the first of the cast; two of them must sign.
const authorities = 3

var regions = []region{
	{"eu", "25EU1", []string{"NL", "BE", "DE", "FR", "LU", "AT", "PL", "IT", "ES"}, "dist-eu", [2]string{"berlin", "lyon"}, "repair-eu", "trader-eu", true},
	{"us", "25US1", []string{"US", "CA", "MX"}, "dist-us", [2]string{"denver", "dallas"}, "repair-us", "trader-us", false},
	{"br", "25BR1", []string{"BR", "AR", "CL", "UY"}, "dist-br", [2]string{"sao-paulo", "curitiba"}, "repair-br", "trader-br", true},
}

var buyers = []string{"buyer-ae", "buyer-ng"}

// The products: item references under the example prefix.
type product struct {
	slug, name, kind, owner string
	gtin                    string
	prefix                  string // of serials
}

var (
	chip   = product{"chip", "LC7 secure microcontroller", "chip", "fab", gtin(11001), "C"}
	radio  = product{"radio", "RM2 radio module", "module", "radio-maker", gtin(12002), "R"}
	sensor = product{"sensor", "ES4 light sensor", "component", "sensor-maker", gtin(13003), "S"}
	device = product{"device", "Lumen One room controller", "device", "brand", gtin(14004), "L1-"}

	products = []product{chip, radio, sensor, device}
)

const prefix = "9506000"

func gtin(item int) string {
	body := fmt.Sprintf("0%s%05d", prefix, item)
	return body + string(gs1.CheckDigit(body))
}

func (p product) uri() string { return custody.ProductURI(p.gtin) }

func (p product) lot(lot string) string { return mustID(gs1.LGTIN, p.gtin, lot) }

func (p product) serial(n int) string { return fmt.Sprintf("%s%05d", p.prefix, n) }

func (p product) unit(n int) string { return mustID(gs1.SGTIN, p.gtin, p.serial(n)) }

func mustID(scheme gs1.Scheme, key, ext string) string {
	id, err := gs1.New(scheme, key, ext)
	if err != nil {
		panic("demo: " + err.Error())
	}
	return id.URI()
}

func gln(n int) string {
	body := fmt.Sprintf("%s%05d", prefix, n)
	return body + string(gs1.CheckDigit(body))
}

// partyURI is the URI of a member of the cast.
func partyURI(slug string) string {
	return mustID(gs1.PGLN, gln(20000+10*castIndex(slug)), "")
}

func siteURI(slug string) string {
	return mustID(gs1.SGLN, gln(20001+10*castIndex(slug)), "")
}

func castIndex(slug string) int {
	i := slices.IndexFunc(cast, func(r role) bool { return r.slug == slug })
	if i < 0 {
		panic("demo: nobody is called " + slug)
	}
	return i
}

// operatorURI is the party of the ledger's operator.
var operatorURI = mustID(gs1.PGLN, gln(10000), "")

// sscc is the n-th carton or pallet.
func sscc(n int) string {
	body := fmt.Sprintf("0%s%09d", prefix, n)
	return mustID(gs1.SSCC, body+string(gs1.CheckDigit(body)), "")
}

// freight is the n-th freight container, with its ISO 6346 check digit.
func freight(n int) string {
	for d := '0'; d <= '9'; d++ {
		number := fmt.Sprintf("FBTU%06d%c", 412300+n, d)
		if gs1.CheckISO6346(number) == nil {
			return mustID(gs1.BIC, number, "")
		}
	}
	panic("demo: a freight container number has a check digit")
}

// lanes are the steps that a product's owner allows.
func lanes(p product) []custody.RouteStep {
	step := func(id string, from, to []string, mode string) custody.RouteStep {
		return custody.RouteStep{ID: id, From: uris(from), To: uris(to), Modes: []string{mode}}
	}
	one := func(s string) []string { return []string{s} }
	switch p.slug {
	case chip.slug:
		return []custody.RouteStep{
			step("fab-air", one("fab"), one("air"), "air"), step("air-osat", one("air"), one("osat"), "air"),
			step("osat-air", one("osat"), one("air"), "air"), step("air-factory", one("air"), one("factory"), "air"),
		}
	case radio.slug, sensor.slug:
		return []custody.RouteStep{step("maker-air", one(p.owner), one("air"), "air"), step("air-factory", one("air"), one("factory"), "air")}
	}
	steps := []custody.RouteStep{
		step("factory-road", one("factory"), one("road"), "road"),
		step("road-air", one("road"), one("air"), "air"),
		step("road-sea", one("road"), one("sea"), "sea"),
	}
	for _, r := range regions {
		carrier, mode := "air", "air"
		if r.sea {
			carrier, mode = "sea", "sea"
		}
		inst := r.installers[:]
		steps = append(steps,
			step(carrier+"-"+r.slug, one(carrier), one(r.dist), mode),
			step(r.slug+"-road", one(r.dist), one("road"), "road"),
			step("road-"+r.slug, one("road"), inst, "road"),
			step(r.slug+"-subcontract", inst, inst, "road"))
	}
	return steps
}

func uris(slugs []string) []string {
	out := make([]string, len(slugs))
	for i, s := range slugs {
		out[i] = partyURI(s)
	}
	return out
}
