package demo

import (
	"fmt"
	"time"

	"fabtrail.dev/fabtrail/custody"
)

// divertPallet sells a pallet off the lanes, and on to where it may not be sold.
func (d *demo) divertPallet() error {
	region := d.plan.divert.region
	r := regions[region]
	pallet := d.ship[region].pallets[d.plan.divert.pallet]
	dist, trader, buyer := d.party(r.dist), d.party(r.trader), d.party(d.plan.buyer)
	day := arrival[region]
	return d.stages("a pallet goes astray",
		[]*act{d.release(pallet, dist, trader, dist.at(), d.day(day, 8), "road")},
		[]*act{d.accept(pallet, trader, trader.at(), d.day(day, 20))},
		[]*act{d.release(pallet, trader, buyer, trader.at(), d.day(day, 21), "air")},
		[]*act{d.accept(pallet, buyer, buyer.at(), d.day(day+1, 14))})
}

// handovers plays what happens between the installers of a market before they
// install: sub-contracts, and the trouble with some of them.
func (d *demo) handovers(region int) error {
	day := arrival[region] + 3
	hour := 1.0
	for _, pd := range []*planned{d.plan.double, d.plan.wrong, d.plan.late, d.plan.voided, d.plan.held} {
		if pd.region != region {
			continue
		}
		if err := d.handover(pd, d.day(day, hour)); err != nil {
			return err
		}
		hour += 3
	}
	return nil
}

func (d *demo) handover(pd *planned, at time.Time) error {
	t, a, b := d.devices[pd.n], d.party(pd.holder()), d.party(pd.other())
	later := func(hours float64) time.Time { return at.Add(time.Duration(hours * float64(time.Hour))) }
	release := d.release(t, a, b, a.at(), at, "road")
	switch pd {
	case d.plan.late:
		return d.lateUpload(t, release, d.accept(t, b, b.at(), later(12)))
	case d.plan.voided:
		return d.takeBack(t, release)
	case d.plan.held:
		hold := &act{by: a, kind: custody.KindHold, on: t, where: a.at(), at: at, body: &custody.Hold{Reason: "quarantine", Note: "the box is dented"}}
		if err := d.stage("holding a device", hold); err != nil {
			return err
		}
		return d.stage("lifting the hold", &act{by: a, kind: custody.KindLift, on: t, where: a.at(), at: later(2),
			body: &custody.Lift{Lifts: custody.DigestOf(hold.id), Reason: "the device inside is fine"}})
	}
	if err := d.stage("handing over to a sub-contractor", release); err != nil {
		return err
	}
	if pd == d.plan.wrong {
		c := d.party(d.plan.wrongBy)
		wrong := d.accept(t, c, a.at(), later(1))
		wrong.effect, wrong.still = "no-effect not_receiver", true
		if err := d.stage("the wrong party accepts", wrong); err != nil {
			return err
		}
	}
	return d.stage("handing over to a sub-contractor", d.accept(t, b, b.at(), later(12)))
}

// lateUpload posts an acceptance before the release that it cites.
func (d *demo) lateUpload(t *thing, release, accept *act) error {
	if err := d.build(release); err != nil {
		return err
	}
	accept.chain = custody.Next(t.seq+1, release.id)
	accept.body.(*custody.Accept).Accepts = custody.DigestOf(release.id)
	accept.effect, accept.still = "pending", true
	if err := d.stage("an acceptance comes early", accept); err != nil {
		return err
	}
	// The same release as was cited: it must not be built anew.
	if err := d.post(release.by, []*act{release}); err != nil {
		return err
	}
	t.moved(accept.id)
	return nil
}

// takeBack voids a release that did not happen.
func (d *demo) takeBack(t *thing, release *act) error {
	seq, head := t.seq, t.head
	if err := d.stage("releasing the wrong device", release); err != nil {
		return err
	}
	void := &act{by: release.by, kind: custody.KindVoid, on: t, where: release.where, at: release.at.Add(time.Hour),
		body: &custody.Void{Voids: custody.DigestOf(release.id), Reason: "did_not_occur"}}
	if err := d.stage("taking a release back", void); err != nil {
		return err
	}
	t.seq, t.head = seq, head
	return nil
}

// incidents plays what happens in a market after the devices are installed.
func (d *demo) incidents(region int) error {
	at := d.day(arrival[region]+5, 0)
	p := d.plan
	for _, x := range []struct {
		device *planned
		play   func(time.Time) error
	}{
		{p.travel, d.seeFarAway}, {p.clone, d.cloneSerial}, {p.double, d.installAgain}, {p.twiceIn, d.reuseChip}, {p.retried, d.retry},
	} {
		if x.device.region != region {
			continue
		}
		at = at.Add(2 * time.Hour)
		if err := x.play(at); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) seeFarAway(time.Time) error {
	pd := d.plan.travel
	by := d.party(d.plan.farBy)
	return d.stage("seen a continent away", &act{by: by, kind: custody.KindSighting, on: d.devices[pd.n], where: by.at(),
		at: d.installedAt(pd).Add(d.plan.farIn), effect: "noted", body: &custody.Sighting{Method: "scan"}})
}

func (d *demo) cloneSerial(at time.Time) error {
	pd := d.plan.clone
	by := d.party("second-factory")
	r := regions[pd.region]
	copied := newThing(pd.uri())
	digest, err := custody.PedigreeDigest(newPedigree())
	if err != nil {
		return err
	}
	return d.stage("a serial is made again", &act{by: by, kind: custody.KindCommission, on: copied, where: by.at(), at: at, still: true,
		effect: "no-effect already_commissioned",
		body:   &custody.Commission{UnitKind: "device", Model: device.name, Lot: r.lot, Pedigree: digest.String()}})
}

func (d *demo) installAgain(at time.Time) error {
	pd := d.plan.double
	again := d.install(pd, d.party(pd.holder()), at)
	again.device, again.still, again.effect = false, true, "no-effect installed"
	return d.stage("installed a second time", again)
}

func (d *demo) reuseChip(at time.Time) error {
	pd := d.plan.twiceIn
	shop := d.party(regions[pd.region].service)
	return d.stage("a chip turns up in another device", &act{by: shop, kind: custody.KindAssemble, on: d.devices[pd.n], where: shop.at(),
		at: at.Add(12 * time.Hour), effect: "partly applied",
		body: &custody.Assemble{Action: "add", Components: []custody.Component{{URI: d.chips[d.plan.twice.chip].uri,
			Head: digestPtr(d.chips[d.plan.twice.chip].head), Position: "U1"}}}})
}

func digestPtr(h [32]byte) *custody.Digest {
	x := custody.DigestOf(h)
	return &x
}

// retry sends an installation that is recorded again: byte for byte, which gets
// the first receipt, and signed anew under another event id, which is refused.
func (d *demo) retry(time.Time) error {
	pd := d.plan.retried
	t, by := d.devices[pd.n], d.party(pd.holder())
	first := d.kept
	if first == nil || first.on != t {
		return fmt.Errorf("the installation of %s was not kept", t.uri)
	}
	r, err := by.submit.Submit(d.ctx, first.envelope)
	if err != nil {
		return err
	}
	if !r.Repeat || r.ID != first.id {
		return fmt.Errorf("a repeated installation got repeat %t and ID %s, want the first receipt of %s", r.Repeat, r.ID, first.id)
	}
	again := d.install(pd, by, d.installedAt(pd))
	again.chain = custody.Next(t.seq-1, d.keptPrev)
	again.still, again.refused = true, "already_recorded"
	return d.stage("sent again", again)
}
