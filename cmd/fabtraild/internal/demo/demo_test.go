package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"fabtrail.dev/fabtrail/client"
	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/internal/node"
	"fabtrail.dev/fabtrail/ledger/checkpoint"
)

func play(t *testing.T, cfg Config) *Demo {
	t.Helper()
	d, err := Run(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, line := range d.Result.Diff {
		t.Errorf("seed %d: %s", cfg.Seed, line)
	}
	return d
}

// TestDemo plays a seed in small and looks at what a newcomer is promised.
func TestDemo(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ledger")
	d := play(t, Config{Seed: 1, Devices: MinDevices, Data: dir})
	r := d.Result
	if len(r.Witnesses) != 3 || r.Origin != Origin || r.Statements < int64(12*MinDevices) || r.Size <= uint64(r.Statements) {
		t.Errorf("witnesses %v, origin %s, %d statements in %d entries", r.Witnesses, r.Origin, r.Statements, r.Size)
	}
	if r.Units != 4*MinDevices {
		t.Errorf("%d units, want %d: three parts each", r.Units, 4*MinDevices)
	}
	words := map[string]bool{}
	for _, v := range r.Verdicts {
		words[v.Verdict] = true
	}
	if len(words) < 5 {
		t.Errorf("verdicts of the kinds %v, want at least five", words)
	}
	algorithms := map[custody.Algorithm]int{}
	for slug, p := range d.parties {
		k, err := custody.NewKey(p.key.Public())
		if err != nil {
			t.Fatalf("%s: %v", slug, err)
		}
		algorithms[k.Algorithm()]++
	}
	for _, a := range custody.Algorithms() {
		if algorithms[a] == 0 {
			t.Errorf("nobody has a key of %s", a)
		}
	}
	list, err := os.ReadFile(filepath.Join(dir, "demo", "parties.txt"))
	if err != nil {
		t.Fatal(err)
	}
	for slug, p := range d.parties {
		if !strings.Contains(string(list), slug+" ") || !strings.Contains(string(list), p.uri+" ") || !strings.Contains(string(list), p.name+"\n") {
			t.Errorf("%s is not in parties.txt", slug)
		}
	}
	t.Run("history", func(t *testing.T) { wholeWay(t, d) })
	t.Run("text", func(t *testing.T) { readable(t, d) })
	t.Run("again", func(t *testing.T) {
		if _, err := Run(context.Background(), Config{Devices: MinDevices, Data: dir}); !errors.Is(err, ErrPlayed) {
			t.Errorf("a second demo in the same folder: %v, want ErrPlayed", err)
		}
	})
	t.Run("served again", func(t *testing.T) { servedAgain(t, d, dir) })
}

// wholeWay checks that the history of a device that came by sea tells every
// hand-over, those of its pallet and container too, in log order and once.
func wholeWay(t *testing.T, d *Demo) {
	public, err := client.NewRemote(d.url, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	v := client.Verifier{Remote: public, Trust: d.trust}
	pd := d.plan.good[0]
	report, err := v.VerifyUnit(context.Background(), d.code(pd.uri()), "")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	last := uint64(0)
	for _, l := range report.Lines {
		if l.Index <= last {
			t.Errorf("entry %d is told after %d", l.Index, last)
		}
		last = l.Index
		on := ""
		if l.On != "" {
			on = " " + l.On
		}
		got = append(got, string(l.Kind)+on)
	}
	carton, pallet, container := " "+d.plan.cartonURI(0, pd.carton), " "+d.plan.palletURI(0, pd.carton/d.plan.pallet), " "+freight(0)
	want := []string{"commission", "assemble", "firmware-load", "qa-result", "identity", "identity", "pack", "pack" + carton, "pack" + pallet,
		"ownership" + container, "release" + container, "accept" + container, "release" + container, "accept" + container,
		"release" + container, "accept" + container, "unpack" + pallet, "unpack" + carton,
		"release" + carton, "accept" + carton, "release" + carton, "accept" + carton, "unpack", "install"}
	if !slices.Equal(got, want) {
		t.Errorf("the history is\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// readable checks that what is printed names every verdict, finding and label.
func readable(t *testing.T, d *Demo) {
	var b bytes.Buffer
	d.Print(&b)
	d.PrintNext(&b, true)
	text := b.String()
	for _, v := range d.Result.Verdicts {
		if !strings.Contains(text, v.Verdict) || !strings.Contains(text, serialOf(v.URI)) {
			t.Errorf("%s of %s is not printed", v.Verdict, v.URI)
		}
	}
	for _, f := range d.Result.Findings {
		if !strings.Contains(text, f.Rule) || !strings.Contains(text, nameOf(f.Actor)) {
			t.Errorf("%s by %s is not printed", f.Rule, f.Actor)
		}
	}
	for _, want := range []string{"?k=", "--trust", "audit", "serve --data", d.url, "no more, and no fewer"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not printed", want)
		}
	}
	if strings.Contains(text, "\x1b") {
		t.Error("colours are printed where there is no terminal")
	}
}

// servedAgain closes the demo and opens its folder as serve does: the same
// history, and the same receipt for a statement sent again.
func servedAgain(t *testing.T, d *Demo, dir string) {
	before, err := checkpointOf(d.Result.Checkpoint)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	sameHistory(t, dir, before)
}

func checkpointOf(note string) (checkpoint.Checkpoint, error) {
	n, err := checkpoint.ParseNote([]byte(note))
	if err != nil {
		return checkpoint.Checkpoint{}, err
	}
	return checkpoint.ParseCheckpoint(n.Text)
}

// sameHistory opens a folder without its witnesses and checks that it continues a
// checkpoint.
func sameHistory(t *testing.T, dir string, before checkpoint.Checkpoint) {
	t.Helper()
	n, err := node.Open(context.Background(), node.Config{Folder: node.Folder(dir), Manual: true})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	v := n.Ledger().Published()
	if v.Size() < before.Size {
		t.Fatalf("size %d is published, %d was before", v.Size(), before.Size)
	}
	if v.Size() == before.Size {
		if v.Root() != before.Root {
			t.Error("another root at the same size")
		}
		return
	}
	hashes, err := v.Consistency(before.Size, v.Size())
	if err != nil {
		t.Fatal(err)
	}
	if err := checkpoint.VerifyConsistency(before.Size, v.Size(), hashes, before.Root, v.Root()); err != nil {
		t.Error(err)
	}
}

// TestSeeds plays seeds, each with another number of devices, and holds each against
// its labels: five, all of twenty in CI, or as many as FABTRAIL_DEMO_SEEDS says. They
// mostly wait for disk and witnesses, so several are played side by side.
func TestSeeds(t *testing.T) {
	n := 5
	switch more, err := strconv.Atoi(os.Getenv("FABTRAIL_DEMO_SEEDS")); {
	case err == nil:
		n = more
	case testing.Short():
		t.Skip("TestDemo plays one")
	case os.Getenv("CI") == "true":
		n = 20
	}
	seeds := make([]uint64, n)
	for i := range seeds {
		seeds[i] = uint64(i + 1)
	}
	err := parallel(seeds, 4, func(seed uint64) error {
		d, err := Run(context.Background(), Config{Seed: seed, Devices: MinDevices + int(seed) - 1})
		if err != nil {
			return fmt.Errorf("seed %d: %w", seed, err)
		}
		for _, line := range d.Result.Diff {
			t.Errorf("seed %d: %s", seed, line)
		}
		return d.Close()
	})
	if err != nil {
		t.Error(err)
	}
}

func TestPlanFollowsSeed(t *testing.T) {
	seen := map[string]uint64{}
	for seed := range uint64(200) {
		n := MinDevices + int(seed)*7
		a, b := newPlan(seed, n), newPlan(seed, n)
		if !reflect.DeepEqual(a.labels(), b.labels()) || a.jitter != b.jitter {
			t.Fatalf("seed %d gives two different plans", seed)
		}
		if len(a.special) != 13 {
			t.Errorf("seed %d: %d devices take part in incidents, want 13 different ones", seed, len(a.special))
		}
		for i := range a.devices {
			if d := &a.devices[i]; a.special[d.n] && (a.diverted(d) || a.recalled(d)) {
				t.Errorf("seed %d: device %d is in two incidents", seed, d.n)
			}
		}
		fixed := newPlan(seed, MinDevices).labels()
		key := fmt.Sprint(fixed.Labels)
		if other, ok := seen[key]; ok {
			t.Errorf("seeds %d and %d tell the same story", other, seed)
		}
		seen[key] = seed
	}
}

// TestPlanIsWhole: every component is built into one device, and every device is
// in one carton.
func TestPlanIsWhole(t *testing.T) {
	for _, n := range []int{MinDevices, 41, 97, 1000} {
		p := newPlan(3, n)
		for name, part := range map[string]func(*planned) int{
			"chip": func(d *planned) int { return d.chip }, "radio": func(d *planned) int { return d.radio }, "sensor": func(d *planned) int { return d.sensor },
		} {
			var used []int
			for i := range p.devices {
				used = append(used, part(&p.devices[i]))
			}
			slices.Sort(used)
			for i, x := range used {
				if x != i {
					t.Fatalf("%d devices: %s %d is used %d times", n, name, i, x)
				}
			}
		}
		d := &demo{plan: p, devices: make([]*thing, n)}
		for i := range d.devices {
			d.devices[i] = newThing(p.devices[i].uri())
		}
		packed := map[string]bool{}
		for region := range regions {
			s := d.newShipment(region)
			if len(s.pallets) < 2 {
				t.Errorf("%d devices: %d pallets in region %d, want some that are not diverted", n, len(s.pallets), region)
			}
			for i, in := range s.inCarton {
				if len(in) == 0 || len(in) > p.carton {
					t.Errorf("%d devices: carton %d of region %d holds %d", n, i, region, len(in))
				}
				for _, u := range in {
					packed[u.uri] = true
				}
			}
		}
		if len(packed) != n {
			t.Errorf("%d of %d devices are packed", len(packed), n)
		}
	}
}

func TestWorldIsValid(t *testing.T) {
	seen := map[string]string{}
	check := func(uri, what string) {
		if other, ok := seen[uri]; ok {
			t.Errorf("%s and %s are both %s", other, what, uri)
		}
		seen[uri] = what
	}
	for _, r := range cast {
		check(partyURI(r.slug), r.slug)
		check(siteURI(r.slug), r.slug+"'s site")
		if _, err := custody.ParseGeo(r.place.geo()); err != nil {
			t.Errorf("%s: %v", r.slug, err)
		}
		if !custody.IsCountry(r.place.country) || r.place.locode != "" && !strings.HasPrefix(r.place.locode, r.place.country) {
			t.Errorf("%s: %s, %s", r.slug, r.place.country, r.place.locode)
		}
	}
	check(operatorURI, "operator")
	if len(cast) < 12 {
		t.Errorf("%d parties", len(cast))
	}
	for _, p := range products {
		check(p.uri(), p.slug)
	}
	for i, r := range regions {
		for _, who := range []string{r.dist, r.trader, r.installers[0], r.installers[1]} {
			if !slices.Contains(r.countries, cast[castIndex(who)].place.country) {
				t.Errorf("%s is outside the market %s", who, r.slug)
			}
		}
		for _, b := range buyers {
			if slices.Contains(r.countries, cast[castIndex(b)].place.country) {
				t.Errorf("%s is inside the market %s", b, r.slug)
			}
		}
		check(freight(i), "container of "+r.slug)
	}
}

func TestStoryClockNeverRunsBackwards(t *testing.T) {
	var c clock
	at := time.Date(2026, 9, 1, 0, 0, 0, 0, time.UTC)
	c.set(at)
	c.set(at.Add(-time.Hour))
	if got := c.now(); !got.Equal(at) {
		t.Errorf("the clock is at %s, want %s", got, at)
	}
	c.goLive()
	if got := c.now(); time.Since(got) > time.Minute {
		t.Errorf("live, the clock is at %s", got)
	}
}

func TestTooFewDevices(t *testing.T) {
	if _, err := Run(context.Background(), Config{Devices: MinDevices - 1}); err == nil {
		t.Error("a demo without room for its incidents was played")
	}
}

func TestShellQuoting(t *testing.T) {
	for in, want := range map[string]string{
		"/tmp/a-b_c.d": "/tmp/a-b_c.d", "a b": "'a b'", "it's": `'it'\''s'`, "": "''", "https://x/?k=y": "'https://x/?k=y'",
	} {
		if got := quote(in); got != want {
			t.Errorf("quote(%q) = %s, want %s", in, got, want)
		}
	}
}

var _ client.Memory = memory{}
