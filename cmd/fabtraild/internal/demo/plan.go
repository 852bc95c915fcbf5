package demo

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"fabtrail.dev/fabtrail/cmd/fabtraild/internal/demo/labels"
	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/custody/rules"
)

// MinDevices is the least number of devices in which all incidents find room.
const MinDevices = 40

// planned is one device as the plan has it. Numbers count from 0; serials are one
// higher.
type planned struct {
	n, region           int
	carton              int // in its region
	chip, radio, sensor int
	installer           int // which of the region's two gets its carton
}

// plan is the whole story decided beforehand: a function of seed and size alone.
// Keys, salts and so statement IDs differ from run to run.
type plan struct {
	seed    uint64
	n       int
	devices []planned
	carton  int // devices in a carton
	pallet  int // cartons on a pallet
	// Lots of components, as numbers of lots.
	chipLots, radioLots, sensorLots int

	jitter [16]time.Duration // moves the acts of the story by up to some hours

	divert  struct{ region, pallet int }
	buyer   string
	recall  int // sensor lot
	clone   *planned
	double  *planned
	wrong   *planned
	wrongBy string
	travel  *planned
	farBy   string // who sees it far away
	farIn   time.Duration
	twice   *planned // its chip turns up in another device
	twiceIn *planned
	revoked string // whose key is revoked
	late    *planned
	voided  *planned
	held    *planned
	retried *planned
	good    [3]*planned // one per market
	special map[int]bool
}

func newPlan(seed uint64, n int) *plan {
	p := &plan{seed: seed, n: n, special: map[int]bool{}}
	p.carton = min(max(n/40, 2), 10)
	p.pallet = min(max(n/100, 2), 5)
	p.chipLots, p.radioLots, p.sensorLots = 4, 2, min(max(n/50, 4), 10)
	r := rand.New(rand.NewPCG(seed, 0x6661627472616964))
	for i := range p.jitter {
		p.jitter[i] = time.Duration(r.IntN(150)) * time.Minute
	}
	chips, sensors := r.Perm(n), r.Perm(n)
	for i := range n {
		region := i * len(regions) / n
		first := (region*n + len(regions) - 1) / len(regions)
		d := planned{n: i, region: region, carton: (i - first) / p.carton, chip: chips[i], radio: i, sensor: sensors[i]}
		d.installer = d.carton % 2
		p.devices = append(p.devices, d)
	}
	for !p.choose(r) {
		clear(p.special)
	}
	return p
}

// choose draws the incidents; false if they find no room.
func (p *plan) choose(r *rand.Rand) bool {
	p.divert.region = r.IntN(len(regions))
	p.divert.pallet = r.IntN(p.pallets(p.divert.region))
	p.buyer = buyers[r.IntN(len(buyers))]
	p.recall = r.IntN(p.sensorLots)
	var normal []*planned
	for i := range p.devices {
		if d := &p.devices[i]; !p.diverted(d) && !p.recalled(d) {
			normal = append(normal, d)
		}
	}
	r.Shuffle(len(normal), func(i, j int) { normal[i], normal[j] = normal[j], normal[i] })
	room := true
	take := func(fits func(*planned) bool) *planned {
		i := slices.IndexFunc(normal, fits)
		if i < 0 {
			room = false
			return &p.devices[0]
		}
		d := normal[i]
		normal = slices.Delete(normal, i, i+1)
		p.special[d.n] = true
		return d
	}
	any := func(*planned) bool { return true }
	for i := range p.good {
		p.good[i] = take(func(d *planned) bool { return d.region == i })
	}
	p.clone, p.double, p.wrong, p.travel = take(any), take(any), take(any), take(any)
	p.twice, p.twiceIn = take(any), take(any)
	p.late, p.voided, p.held, p.retried = take(any), take(any), take(any), take(any)
	other := regions[(p.wrong.region+1+r.IntN(2))%len(regions)]
	p.wrongBy = []string{other.installers[r.IntN(2)], regions[p.wrong.region].service}[r.IntN(2)]
	p.farBy = []string{"factory", p.carrier(p.travel.region)}[r.IntN(2)]
	p.farIn = time.Duration(40+r.IntN(120)) * time.Minute
	// Somebody who plays no other part in this story.
	idle := regions[(p.divert.region+1+r.IntN(2))%len(regions)]
	p.revoked = idle.trader
	return room && len(p.ofLot(p.recall)) >= 2 && len(p.onPallet()) >= 2
}

func (p *plan) carrier(region int) string {
	if regions[region].sea {
		return "sea"
	}
	return "air"
}

func (p *plan) cartons(region int) int {
	n := 0
	for i := range p.devices {
		if p.devices[i].region == region {
			n = max(n, p.devices[i].carton+1)
		}
	}
	return n
}

func (p *plan) pallets(region int) int { return (p.cartons(region) + p.pallet - 1) / p.pallet }

func (p *plan) diverted(d *planned) bool {
	return d.region == p.divert.region && d.carton/p.pallet == p.divert.pallet
}

// lotOf is the lot of a component by its number.
func (p *plan) lotOf(number, lots int) int { return number * lots / p.n }

func (p *plan) recalled(d *planned) bool { return p.lotOf(d.sensor, p.sensorLots) == p.recall }

// ofLot lists the devices, not diverted, with a sensor of a lot.
func (p *plan) ofLot(lot int) (ds []*planned) {
	for i := range p.devices {
		if d := &p.devices[i]; !p.diverted(d) && p.lotOf(d.sensor, p.sensorLots) == lot {
			ds = append(ds, d)
		}
	}
	return ds
}

// onPallet lists the devices on the diverted pallet that are not recalled.
func (p *plan) onPallet() (ds []*planned) {
	for i := range p.devices {
		if d := &p.devices[i]; p.diverted(d) && !p.recalled(d) {
			ds = append(ds, d)
		}
	}
	return ds
}

func (d *planned) uri() string { return device.unit(d.n + 1) }

// holder and other are the installer who gets the device's carton, and the other
// one of the region.
func (d *planned) holder() string { return regions[d.region].installers[d.installer] }
func (d *planned) other() string  { return regions[d.region].installers[1-d.installer] }

// containerOf is the number behind the SSCC of a load of devices; components
// have lower ones.
func (p *plan) cartonURI(region, carton int) string { return sscc(200_000 + 20_000*region + carton) }
func (p *plan) palletURI(region, pallet int) string { return sscc(210_000 + 20_000*region + pallet) }

// unissued is a serial that looks right and was never issued.
func (p *plan) unissued() string { return device.unit(p.n + 1 + int(p.seed%50)) }

func sensorLot(lot int) string { return fmt.Sprintf("ES4-25%02d", lot+1) }

// labels says what the story must show.
func (p *plan) labels() *labels.Set {
	s := &labels.Set{Seed: p.seed, Devices: p.n}
	add := func(l labels.Label) { s.Labels = append(s.Labels, l) }
	verdict := func(d *planned, word custody.Word, reason string) labels.Verdict {
		return labels.Verdict{Unit: d.uri(), Word: string(word), Reason: reason}
	}
	finding := func(rule rules.ID, unit, slug string) labels.Finding {
		return labels.Finding{Rule: string(rule), Unit: unit, Accused: partyURI(slug)}
	}
	code := func(rule rules.ID) string { return custody.CodeFinding + string(rule) }

	for i, d := range p.good {
		r := regions[i]
		add(labels.Label{Name: "good-" + r.slug, Benign: true, Units: []string{d.uri()},
			Story:    fmt.Sprintf("made, shipped and installed by %s as it should be", named(d.holder())),
			Verdicts: []labels.Verdict{verdict(d, custody.Verified, "")}})
	}
	add(labels.Label{Name: "serial-only", Benign: true, Units: []string{p.good[0].uri()},
		Story:    "somebody asks for a serial without the key printed beside it",
		Verdicts: []labels.Verdict{{Unit: p.good[0].uri(), Word: string(custody.StatusOnly), Public: true}}})

	r := regions[p.divert.region]
	pallet := p.palletURI(p.divert.region, p.divert.pallet)
	on := p.onPallet()
	diverted := labels.Label{Name: "diverted-pallet",
		Story:    fmt.Sprintf("%s sells a pallet to %s, off every lane, who sells it on to %s, outside its market", named(r.dist), named(r.trader), named(p.buyer)),
		Units:    []string{pallet},
		Findings: []labels.Finding{finding(rules.Lane, pallet, r.dist), finding(rules.Market, pallet, r.trader)},
		Verdicts: []labels.Verdict{verdict(on[0], custody.CheckBeforeUse, code(rules.Market)), verdict(on[len(on)-1], custody.CheckBeforeUse, code(rules.Lane))},
	}
	for _, d := range on {
		diverted.Units = append(diverted.Units, d.uri())
	}
	add(diverted)

	add(labels.Label{Name: "cloned-serial", Units: []string{p.clone.uri()},
		Story:    fmt.Sprintf("%s commissions a serial that %s has made already", named("second-factory"), named("factory")),
		Findings: []labels.Finding{finding(rules.DupCommission, p.clone.uri(), "second-factory")},
		Verdicts: []labels.Verdict{verdict(p.clone, custody.DoNotInstall, code(rules.DupCommission))}})
	add(labels.Label{Name: "double-install", Units: []string{p.double.uri()},
		Story:    fmt.Sprintf("%s hands a device over to %s, who installs it; then both claim to have done so", named(p.double.holder()), named(p.double.other())),
		Findings: []labels.Finding{finding(rules.DoubleInstall, p.double.uri(), p.double.holder())},
		Verdicts: []labels.Verdict{verdict(p.double, custody.DoNotInstall, code(rules.DoubleInstall))}})
	add(labels.Label{Name: "never-issued", Units: []string{p.unissued()},
		Story:    "a serial that looks right, and that nobody has issued",
		Verdicts: []labels.Verdict{{Unit: p.unissued(), Word: string(custody.NotInLedger), Reason: "listed"}}})
	add(labels.Label{Name: "wrong-receiver", Units: []string{p.wrong.uri()},
		Story:    fmt.Sprintf("%s accepts what was released to %s", named(p.wrongBy), named(p.wrong.other())),
		Findings: []labels.Finding{finding(rules.WrongReceiver, p.wrong.uri(), p.wrongBy)},
		Verdicts: []labels.Verdict{verdict(p.wrong, custody.VerifiedNote, code(rules.WrongReceiver))}})
	add(labels.Label{Name: "impossible-journey", Units: []string{p.travel.uri()},
		Story:    fmt.Sprintf("installed by %s, and %d minutes later seen by %s, a continent away", named(p.travel.holder()), int(p.farIn.Minutes()), named(p.farBy)),
		Findings: []labels.Finding{finding(rules.Travel, p.travel.uri(), p.farBy)},
		Verdicts: []labels.Verdict{verdict(p.travel, custody.CheckBeforeUse, code(rules.Travel))}})
	part := chip.unit(p.twice.chip + 1)
	shop := regions[p.twiceIn.region].service
	add(labels.Label{Name: "part-twice", Units: []string{part, p.twice.uri(), p.twiceIn.uri()},
		Story:    fmt.Sprintf("%s builds a chip into a device that sits in another device already", named(shop)),
		Findings: []labels.Finding{finding(rules.PartTwice, part, shop)},
		Verdicts: []labels.Verdict{verdict(p.twiceIn, custody.CheckBeforeUse, "part_joined"), verdict(p.twice, custody.VerifiedNote, code(rules.PartTwice))}})
	in := p.ofLot(p.recall)
	recalled := labels.Label{Name: "recalled-lot", Story: fmt.Sprintf("%s recalls sensor lot %s, and with it every device that has one", named("sensor-maker"), sensorLot(p.recall)),
		Verdicts: []labels.Verdict{verdict(in[0], custody.DoNotInstall, "part_recall"), verdict(in[len(in)-1], custody.DoNotInstall, "part_recall")}}
	for _, d := range in {
		recalled.Units = append(recalled.Units, d.uri())
	}
	add(recalled)
	add(labels.Label{Name: "revoked-key", Units: []string{p.good[1].uri()},
		Story:    fmt.Sprintf("the key of %s is revoked; what it signs afterwards is refused at the door", named(p.revoked)),
		Refusals: []labels.Refusal{{Kind: string(custody.KindSighting), Unit: p.good[1].uri(), Actor: partyURI(p.revoked), Type: "key_revoked"}}})

	add(labels.Label{Name: "retry", Benign: true, Units: []string{p.retried.uri()},
		Story:    fmt.Sprintf("%s sends an installation twice after a lost answer, and again under a new event id", named(p.retried.holder())),
		Refusals: []labels.Refusal{{Kind: string(custody.KindInstall), Unit: p.retried.uri(), Actor: partyURI(p.retried.holder()), Type: "already_recorded"}},
		Verdicts: []labels.Verdict{verdict(p.retried, custody.Verified, "")}})
	add(labels.Label{Name: "late-upload", Benign: true, Units: []string{p.late.uri()},
		Story:    fmt.Sprintf("the acceptance by %s is uploaded before the release by %s", named(p.late.other()), named(p.late.holder())),
		Verdicts: []labels.Verdict{verdict(p.late, custody.VerifiedNote, "late_posting")}})
	add(labels.Label{Name: "correction", Benign: true, Units: []string{p.voided.uri()},
		Story:    fmt.Sprintf("%s releases the wrong device, and takes that back", named(p.voided.holder())),
		Verdicts: []labels.Verdict{verdict(p.voided, custody.VerifiedNote, "correction")}})
	add(labels.Label{Name: "hold-lifted", Benign: true, Units: []string{p.held.uri()},
		Story:    fmt.Sprintf("%s holds a device with a damaged box, looks inside, and lifts the hold", named(p.held.holder())),
		Verdicts: []labels.Verdict{verdict(p.held, custody.Verified, "")}})
	return s
}

func named(slug string) string { return cast[castIndex(slug)].name }
