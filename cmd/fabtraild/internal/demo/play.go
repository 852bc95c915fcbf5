package demo

import (
	"crypto"
	"fmt"
	"time"

	"fabtrail.dev/fabtrail/custody"
)

// story is how long the story takes; it ends a little before now.
const story = 53 * 24 * time.Hour

// day is a time of the story: days and hours after its beginning, moved a little
// by the seed.
func (d *demo) day(days, hours float64) time.Time {
	t := d.begin.Add(time.Duration((days*24 + hours) * float64(time.Hour))).Truncate(time.Second)
	return t.Add(d.plan.jitter[int(days)%len(d.plan.jitter)])
}

// at is where a party says that it is: its own site.
func (p *party) at() *custody.Where {
	return &custody.Where{Site: p.site, Locode: p.place.locode, Country: p.place.country, Geo: p.place.geo()}
}

// play plays everything up to the goods' arrival in each market and after.
func (d *demo) play() error {
	for _, act := range []func() error{d.enrol, d.rules, d.commissionParts, d.shipParts, d.assemble, d.packDevices, d.leave} {
		if err := act(); err != nil {
			return err
		}
	}
	for _, region := range []int{1, 0, 2} { // by air first, then the shorter sea way
		if err := d.deliver(region); err != nil {
			return err
		}
		if err := d.incidents(region); err != nil {
			return err
		}
	}
	return d.ending()
}

// enrol enrols everybody. Parties may come with the authorities' signatures, or
// an administrator may bring them.
func (d *demo) enrol() error {
	var acts []*act
	for _, r := range cast[authorities:] {
		p := d.party(r.slug)
		k, err := custody.NewKey(p.key.Public())
		if err != nil {
			return err
		}
		rec := k.Record()
		rec.Use, rec.Protection = "custody", "software"
		acts = append(acts, &act{by: p, kind: custody.KindParty, subject: p.uri, sign: d.signedBy(p.key), body: &custody.Party{
			LegalName: p.name, Roles: p.roles, Keys: []custody.KeyRecord{rec},
			Sites: []custody.Site{{ID: p.site, Country: p.place.country, Locode: p.place.locode, Geo: p.place.geo()}},
		}})
	}
	d.clock.set(d.day(0, 1))
	return d.stage("enrolling the parties", acts...)
}

// signedBy adds the signatures of two authorities.
func (d *demo) signedBy(keys ...crypto.Signer) []crypto.Signer {
	return append(keys, d.party(cast[0].slug).key, d.party(cast[1].slug).key)
}

// rules puts products, lanes and serial blocks into the log.
func (d *demo) rules() error {
	var products_, lanes_, blocks []*act
	for _, p := range products {
		owner := d.party(p.owner)
		products_ = append(products_, &act{by: owner, kind: custody.KindProduct, subject: p.uri(), sign: d.signedBy(owner.key),
			body: &custody.Product{Owner: owner.uri, Name: p.name, Kind: p.kind}})
		lanes_ = append(lanes_, &act{by: owner, kind: custody.KindRoutePolicy, subject: p.uri(),
			body: &custody.RoutePolicy{Actor: owner.uri, Steps: lanes(p)}})
	}
	block := func(p product, lot string, count int, countries []string, makers ...string) {
		owner := d.party(p.owner)
		blocks = append(blocks, &act{by: owner, kind: custody.KindSerialBlock, subject: p.lot(lot),
			body: &custody.SerialBlock{Actor: owner.uri, Count: int64(count), Commissioners: uris(makers), Countries: countries}})
	}
	for _, l := range d.lots {
		block(l.product, l.name, len(l.units), nil, l.product.owner)
	}
	for i, r := range regions {
		block(device, r.lot, len(d.market[i]), r.countries, "factory", "second-factory")
	}
	d.clock.set(d.day(0, 6))
	if err := d.stage("assigning products", products_...); err != nil {
		return err
	}
	if err := d.stage("agreeing on lanes", lanes_...); err != nil {
		return err
	}
	return d.stage("issuing serial blocks", blocks...)
}

// lot is a lot of components.
type lot struct {
	product product
	name    string
	units   []*thing
}

func (d *demo) commissionParts() error {
	var acts []*act
	for i, l := range d.lots {
		p := d.party(l.product.owner)
		acts = append(acts, &act{by: p, kind: custody.KindCommission, subject: l.product.lot(l.name), members: l.units, where: p.at(),
			at: d.day(1, float64(i%6)), body: &custody.Commission{UnitKind: l.product.kind, Model: l.product.name, Lot: l.name}})
	}
	return d.stage("commissioning chips, radios and sensors", acts...)
}

// goods are components on their way.
type goods struct {
	product product
	from    string
	units   []*thing
	cartons [][]*thing // what is in each carton
	loads   []*thing   // cartons
	pallet  *thing
}

// shipParts brings chips by way of Penang, and radios and sensors straight, to the
// factory.
func (d *demo) shipParts() error {
	var all []*goods
	for _, p := range []product{chip, radio, sensor} {
		g := &goods{product: p, from: p.owner}
		for _, l := range d.lots {
			if l.product.slug == p.slug {
				g.units = append(g.units, l.units...)
			}
		}
		all = append(all, g)
	}
	chips := all[0]
	if err := d.shipTo("Penang", all[:1], "osat", 2); err != nil {
		return err
	}
	chips.from = "osat"
	osat := d.party("osat")
	var tests []*act
	for i, c := range chips.loads {
		tests = append(tests, &act{by: osat, kind: custody.KindQAResult, on: c, at: d.day(4, 2+float64(i)/10), where: osat.at(), effect: "noted",
			body: &custody.QAResult{Result: "PASSED", PassedTests: []string{"wafer-sort", "final-test", "burn-in"}}})
	}
	if err := d.stage("testing chips at Penang", tests...); err != nil {
		return err
	}
	if err := d.unpackCartons(chips, 4, 6); err != nil {
		return err
	}
	if err := d.shipTo("Haiphong", all, "factory", 5); err != nil {
		return err
	}
	for _, g := range all {
		g.from = "factory"
		if err := d.unpackCartons(g, 8, 6); err != nil {
			return err
		}
	}
	return nil
}

// perCarton is how many components go into a carton.
const perCarton = 100

// shipTo packs goods in cartons on one pallet each, and sends that by air.
func (d *demo) shipTo(city string, all []*goods, to string, day float64) error {
	air, dest := d.party("air"), d.party(to)
	var pack, stack, release, accept, hand, take, open []*act
	for _, g := range all {
		p := d.party(g.from)
		g.cartons, g.loads = nil, nil
		for from := 0; from < len(g.units); from += perCarton {
			in := g.units[from:min(from+perCarton, len(g.units))]
			c := d.newLoad()
			g.cartons, g.loads = append(g.cartons, in), append(g.loads, c)
			pack = append(pack, &act{by: p, kind: custody.KindPack, on: c, members: in, where: p.at(), at: d.day(day, 1), body: &custody.Pack{Level: 1}})
		}
		g.pallet = d.newLoad()
		stack = append(stack, &act{by: p, kind: custody.KindPack, on: g.pallet, members: g.loads, where: p.at(), at: d.day(day, 3), body: &custody.Pack{Level: 2}})
		release = append(release, d.release(g.pallet, p, air, p.at(), d.day(day, 5), "air"))
		accept = append(accept, d.accept(g.pallet, air, p.at(), d.day(day, 6)))
		hand = append(hand, d.release(g.pallet, air, dest, dest.at(), d.day(day+1, 10), "air"))
		take = append(take, d.accept(g.pallet, dest, dest.at(), d.day(day+1, 12)))
		open = append(open, &act{by: dest, kind: custody.KindUnpack, on: g.pallet, members: g.loads, where: dest.at(), at: d.day(day+1, 13), body: &custody.Unpack{}})
	}
	return d.stages("flying components to "+city, pack, stack, release, accept, hand, take, open)
}

func (d *demo) unpackCartons(g *goods, day, hour float64) error {
	p := d.party(g.from)
	var acts []*act
	for i, c := range g.loads {
		acts = append(acts, &act{by: p, kind: custody.KindUnpack, on: c, members: g.cartons[i], where: p.at(), at: d.day(day, hour), body: &custody.Unpack{}})
	}
	return d.stage("unpacking "+g.product.slug+"s", acts...)
}

func (d *demo) stages(title string, steps ...[]*act) error {
	for _, acts := range steps {
		if err := d.stage(title, acts...); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) release(t *thing, from, to *party, where *custody.Where, at time.Time, mode string) *act {
	return &act{by: from, kind: custody.KindRelease, on: t, where: where, at: at,
		body: &custody.Release{From: from.uri, To: to.uri, Transport: &custody.Transport{Mode: mode}}}
}

func (d *demo) accept(t *thing, by *party, where *custody.Where, at time.Time) *act {
	return &act{by: by, kind: custody.KindAccept, on: t, where: where, at: at, body: &custody.Accept{Condition: "good"}}
}

// assemble makes the devices in three days: parts, firmware, test, identity.
func (d *demo) assemble() error {
	factory, registrar := d.party("factory"), d.party("registrar")
	var births []*act
	for i, r := range regions {
		births = append(births, &act{by: factory, kind: custody.KindCommission, subject: device.lot(r.lot), members: d.market[i], where: factory.at(),
			at: d.day(9, float64(i)), body: &custody.Commission{UnitKind: "device", Model: device.name, Lot: r.lot}})
	}
	if err := d.stage("commissioning devices", births...); err != nil {
		return err
	}
	const days = 3
	for shift := range days {
		from, to := d.plan.n*shift/days, d.plan.n*(shift+1)/days
		var build, load, test, birth, register []*act
		for i := from; i < to; i++ {
			pd, t := &d.plan.devices[i], d.devices[i]
			at := d.day(float64(9+shift), 4).Add(time.Duration(i-from) * 20 * time.Second)
			where := factory.at()
			build = append(build, &act{by: factory, kind: custody.KindAssemble, on: t, where: where, at: at, body: &custody.Assemble{Action: "add"},
				parts: []*thing{d.chips[pd.chip], d.radios[pd.radio], d.sensors[pd.sensor]}})
			load = append(load, &act{by: factory, kind: custody.KindFirmwareLoad, on: t, where: where, at: at.Add(time.Hour),
				body: &custody.FirmwareLoad{Image: custody.DigestOf(d.firmware), Version: "3.1.4", Slot: "a"}})
			test = append(test, &act{by: factory, kind: custody.KindQAResult, on: t, where: where, at: at.Add(2 * time.Hour), effect: "noted",
				body: &custody.QAResult{Result: "PASSED", PassedTests: []string{"functional", "radio", "calibration"}}})
			spki, err := custody.NewKey(t.key.Public())
			if err != nil {
				return err
			}
			birth = append(birth, &act{by: factory, kind: custody.KindIdentity, on: t, where: where, at: at.Add(3 * time.Hour), device: true,
				body: &custody.Identity{State: "bootstrap", SPKI: spki.Record().SPKI}})
			register = append(register, &act{by: registrar, kind: custody.KindIdentity, on: t, at: at.Add(4 * time.Hour), body: &custody.Identity{State: "registered"}})
		}
		for _, s := range []struct {
			title string
			acts  []*act
		}{{"assembling", build}, {"loading firmware", load}, {"testing devices", test}, {"giving devices their keys", birth}, {"registering identities", register}} {
			if err := d.stage(s.title, s.acts...); err != nil {
				return err
			}
		}
	}
	return nil
}

// packDevices packs devices in cartons, cartons on pallets, and pallets for the
// sea in one freight container for each market.
func (d *demo) packDevices() error {
	factory := d.party("factory")
	pack := func(t *thing, in []*thing, level int64, at time.Time) *act {
		return &act{by: factory, kind: custody.KindPack, on: t, members: in, where: factory.at(), at: at, body: &custody.Pack{Level: level}}
	}
	var one, two, three []*act
	for ri, r := range regions {
		s := d.ship[ri]
		for i, c := range s.cartons {
			one = append(one, pack(c, s.inCarton[i], 1, d.day(12, 5)))
		}
		for i, p := range s.pallets {
			two = append(two, pack(p, s.onPallet[i], 2, d.day(12, 7)))
		}
		if r.sea {
			three = append(three, pack(s.container, s.pallets, 3, d.day(12, 9)))
		}
	}
	return d.stages("packing cartons, pallets and containers", one, two, three)
}

// leave hands everything to the road carrier and on to ship and aircraft, while
// title passes to the distributors.
func (d *demo) leave() error {
	factory, road, brand := d.party("factory"), d.party("road"), d.party("brand")
	port := &custody.Where{Locode: "VNHPH", Country: "VN", Geo: "geo:20.86,106.69;u=1000"}
	var sell, out, drive, hand, aboard []*act
	for ri, r := range regions {
		carrier, mode := d.party(d.plan.carrier(ri)), "air"
		if r.sea {
			mode = "sea"
		}
		dist := d.party(r.dist)
		for _, t := range d.ship[ri].outer(r.sea) {
			sell = append(sell, &act{by: brand, kind: custody.KindOwnership, on: t, at: d.day(12, 11), sign: []crypto.Signer{brand.key, dist.key},
				body: &custody.Ownership{From: brand.uri, To: dist.uri, Basis: "FCA Haiphong"}})
			out = append(out, d.release(t, factory, road, factory.at(), d.day(12, 13), "road"))
			drive = append(drive, d.accept(t, road, factory.at(), d.day(12, 14)))
			hand = append(hand, d.release(t, road, carrier, port, d.day(12, 17), mode))
			aboard = append(aboard, d.accept(t, carrier, port, d.day(12, 18)))
		}
	}
	return d.stages("leaving Haiphong by road, air and sea", sell, out, drive, hand, aboard)
}

// arrival is the day on which a market's goods arrive.
var arrival = []float64{40, 15, 46}

// deliver brings a market's goods to its distributor and installers, and installs
// them.
func (d *demo) deliver(region int) error {
	r, s := regions[region], d.ship[region]
	day := arrival[region]
	carrier, dist, road := d.party(d.plan.carrier(region)), d.party(r.dist), d.party("road")
	title := "delivering in " + dist.place.city
	mode := "air"
	if r.sea {
		mode = "sea"
	}
	var hand, take, open []*act
	for _, t := range s.outer(r.sea) {
		hand = append(hand, d.release(t, carrier, dist, dist.at(), d.day(day, 1), mode))
		take = append(take, d.accept(t, dist, dist.at(), d.day(day, 3)))
	}
	if r.sea {
		open = append(open, &act{by: dist, kind: custody.KindUnpack, on: s.container, members: s.pallets, where: dist.at(), at: d.day(day, 5), body: &custody.Unpack{}})
	}
	if err := d.stages(title, hand, take, open); err != nil {
		return err
	}
	if region == d.plan.divert.region {
		if err := d.divertPallet(); err != nil {
			return err
		}
	}
	var break_, send, drive, arrive, got, unbox []*act
	for i, p := range s.pallets {
		if region == d.plan.divert.region && i == d.plan.divert.pallet {
			continue
		}
		break_ = append(break_, &act{by: dist, kind: custody.KindUnpack, on: p, members: s.onPallet[i], where: dist.at(), at: d.day(day+1, 2), body: &custody.Unpack{}})
	}
	for i, c := range s.cartons {
		if region == d.plan.divert.region && i/d.plan.pallet == d.plan.divert.pallet {
			continue
		}
		inst := d.party(r.installers[i%2])
		send = append(send, d.release(c, dist, road, dist.at(), d.day(day+1, 5), "road"))
		drive = append(drive, d.accept(c, road, dist.at(), d.day(day+1, 6)))
		arrive = append(arrive, d.release(c, road, inst, inst.at(), d.day(day+2, 8), "road"))
		got = append(got, d.accept(c, inst, inst.at(), d.day(day+2, 9)))
		unbox = append(unbox, &act{by: inst, kind: custody.KindUnpack, on: c, members: s.inCarton[i], where: inst.at(), at: d.day(day+2, 11), body: &custody.Unpack{}})
	}
	if err := d.stages(title, break_, send, drive, arrive, got, unbox); err != nil {
		return err
	}
	if err := d.handovers(region); err != nil {
		return err
	}
	var installs []*act
	for i := range d.plan.devices {
		pd := &d.plan.devices[i]
		if pd.region != region || d.plan.diverted(pd) {
			continue
		}
		by := pd.holder()
		if d.subcontracted(pd) {
			by = pd.other()
		}
		a := d.install(pd, d.party(by), d.installedAt(pd))
		if pd == d.plan.retried {
			d.kept, d.keptPrev = a, a.on.head
		}
		installs = append(installs, a)
	}
	return d.stage("installing in "+dist.place.country, installs...)
}

// subcontracted tells the devices that the first installer hands to the other.
func (d *demo) subcontracted(pd *planned) bool {
	return pd == d.plan.double || pd == d.plan.wrong || pd == d.plan.late
}

func (d *demo) installedAt(pd *planned) time.Time {
	return d.day(arrival[pd.region]+4, 1).Add(time.Duration(pd.n%40) * 15 * time.Minute)
}

// install puts a device into use. Its exact address is sealed; the statement
// itself tells no more than the neighbourhood.
func (d *demo) install(pd *planned, by *party, at time.Time) *act {
	t := d.devices[pd.n]
	where := &custody.Where{Country: by.place.country, Geo: by.place.at(pd.n%15-7, pd.n%11-5, 2000)}
	a := &act{by: by, kind: custody.KindInstall, on: t, where: where, at: at, device: true, body: &custody.Install{Acceptance: "commissioned"}}
	a.sealed = d.seal(t.uri, fmt.Sprintf(`{"street":"%d Example Street","city":%q,"room":"%d"}`, 1+pd.n%200, by.place.city, 100+pd.n%50))
	return a
}

// ending recalls a lot, revokes a key, and shows what that key is worth then.
func (d *demo) ending() error {
	maker := d.party("sensor-maker")
	l := sensor.lot(sensorLot(d.plan.recall))
	d.clock.set(d.day(52, 14))
	if err := d.stage("recalling a lot", &act{by: maker, kind: custody.KindRecall, subject: l, body: &custody.Recall{
		Actor: maker.uri, Action: "open", Selector: custody.Selector{Lot: l}, Reason: "the housing lets moisture in", Remedy: "the maker replaces the device",
	}}); err != nil {
		return err
	}
	who := d.party(d.plan.revoked)
	k, err := custody.NewKey(who.key.Public())
	if err != nil {
		return err
	}
	d.clock.set(d.day(52, 18))
	if err := d.stage("revoking a key", &act{by: d.party(cast[0].slug), kind: custody.KindKey, subject: who.uri, sign: d.signedBy(), body: &custody.KeyChange{
		Action: "revoke", Key: custody.DigestOf(k.Hash), Reason: "the key was found in a public repository",
	}}); err != nil {
		return err
	}
	t := d.devices[d.plan.good[1].n]
	return d.stage("using a revoked key", &act{by: who, kind: custody.KindSighting, on: t, where: who.at(), at: d.day(52, 20), still: true,
		refused: "key_revoked", body: &custody.Sighting{Method: "scan"}})
}
