package custody_test

import (
	"bytes"
	"fmt"
	"os"
	"reflect"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/custody/custodytest"
	"fabtrail.dev/fabtrail/custody/rules"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// writes fails the test when the fold writes a row whose topic does not list the
// entry: that is what makes a topic's complete list enough to know its rows.
type writes struct {
	custody.State
	t      *testing.T
	it     custody.Item
	topics map[entry.Topic]bool
}

func (w writes) Set(key string, value []byte) {
	if topic, ok := custody.RowTopic(key); ok && !w.topics[topic] {
		w.t.Errorf("entry %d, a %s, writes %q outside of its topics %v", w.it.Index, w.it.Signed.Statement.Kind, key, w.topics)
	}
	w.State.Set(key, value)
}

func campaign(t *testing.T) (worlds, steps, units int) {
	worlds, steps, units = 65, 600, 80
	if s := os.Getenv("FABTRAIL_CLOSURE_WORLDS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatalf("FABTRAIL_CLOSURE_WORLDS: %v", err)
		}
		worlds = n
	}
	if testing.Short() || custodytest.Race {
		worlds = min(worlds, 3)
	}
	return worlds, steps, units
}

func seedBase() uint64 {
	n, _ := strconv.ParseUint(os.Getenv("FABTRAIL_CLOSURE_SEED"), 10, 64)
	return n
}

// TestClosureEqualsReplay: for random histories with adversarial moves, what the
// walk over the closure of a unit says is what a replay of everything says: rows,
// effects and verdict. FABTRAIL_CLOSURE_WORLDS and FABTRAIL_CLOSURE_SEED make it a
// bigger campaign or another one.
func TestClosureEqualsReplay(t *testing.T) {
	worlds, steps, units := campaign(t)
	defer debug.SetGCPercent(debug.SetGCPercent(800)) // small states, many of them
	var total atomic.Int64
	stats := newStats()
	t.Run("worlds", func(t *testing.T) {
		for i := range worlds {
			t.Run(strconv.FormatUint(seedBase()+uint64(i), 10), func(t *testing.T) {
				t.Parallel()
				w := custodytest.New(seedBase()+uint64(i), custodytest.Config{Units: units, Evil: []int{5, 15, 30, 50}[i%4], Corrupt: []int{0, 0, 10, 40}[i/4%4]})
				w.Wrap = func(st custody.State, it custody.Item) custody.State {
					set := map[entry.Topic]bool{}
					for _, topic := range custody.Topics(st, it) {
						set[topic] = true
					}
					return writes{st, t, it, set}
				}
				var found [][]custody.Finding
				engine := rules.New()
				w.After = func(st custody.State, it custody.Item, eff custody.Effect) {
					found = append(found, engine.Apply(st, it, eff))
				}
				w.Found()
				for range steps {
					w.Step()
				}
				full := newFull(w, found)
				for _, uri := range w.Units {
					full.compare(t, custody.UnitRef{URI: uri})
					total.Add(1)
				}
				for _, l := range w.Loads[max(0, len(w.Loads)-10):] {
					full.compare(t, l)
				}
				stats.add(full)
			})
		}
	})
	t.Logf("%d units in %d worlds; %s", total.Load(), worlds, stats)
	if worlds >= 20 {
		stats.wants(t)
	}
}

// full is a world with what comparisons need.
type full struct {
	w      *custodytest.World
	topics []map[entry.Topic]bool // of each item
	found  [][]custody.Finding    // that each item completed, and last those whose time has come

	concluded map[string]int // findings of everything about units, by rule
}

func (f *full) now() uint64 { return f.w.Items[len(f.w.Items)-1].Time }

func newFull(w *custodytest.World, found [][]custody.Finding) *full {
	f := &full{w: w, found: found, topics: make([]map[entry.Topic]bool, len(w.Items)), concluded: map[string]int{}}
	for i := range f.topics {
		f.topics[i] = map[entry.Topic]bool{}
	}
	for topic, items := range w.Lists {
		for _, it := range items {
			f.topics[it.Index][topic] = true
		}
	}
	return f
}

func (f *full) compare(t *testing.T, ref custody.UnitRef) {
	t.Helper()
	h, err := custody.Walk(f.w, ref.String(), func(string) bool { return true })
	if err != nil {
		t.Fatalf("%s: %v", ref, err)
	}
	lists := map[entry.Topic]bool{}
	for _, use := range h.Topics {
		lists[use.Topic] = true
	}
	f.compareRows(t, ref, h, lists)
	f.compareEffects(t, ref, h, lists)
	all := custody.Survey(f.w.St, ref, f.w.Items, f.w.Effects)
	all.State = f.w.St
	if len(f.w.Lists[ref.Topic()]) == 0 { // absence is all that is asked and shown then
		if v := custody.Judge(h, custody.Inputs{Complete: true}); v.Word != custody.NotInLedger || len(h.Topics) != 1 || all.Unit.Phase != custody.PhaseNone {
			t.Errorf("%s: no entries, and the verdict is %v after %d lists", ref, v, len(h.Topics))
		}
		return
	}
	all.Topics = []custody.TopicUse{{Topic: ref.Topic(), Indexes: indexes(f.w.Lists[ref.Topic()])}}
	all.Accused = f.accused(lists)
	if !reflect.DeepEqual(h.Holds, all.Holds) || !reflect.DeepEqual(h.Recalls, all.Recalls) || !reflect.DeepEqual(h.Within, all.Within) ||
		h.Keeper != all.Keeper || h.Owner != all.Owner || !reflect.DeepEqual(h.Twins, all.Twins) || !reflect.DeepEqual(h.Accused, all.Accused) ||
		len(h.Items) > 0 && !reflect.DeepEqual(h.Standing, all.Standing) {
		t.Errorf("%s: closure %+v\nreplay %+v", ref, brief(h), brief(all))
	}
	gotFindings, wantFindings := conclude(h, rules.Found(h, f.now())), conclude(all, f.found)
	for _, c := range wantFindings {
		f.concluded[c.Rule]++
	}
	got := custody.Judge(h, custody.Inputs{Complete: true, Findings: gotFindings})
	want := custody.Judge(all, custody.Inputs{Complete: true, Findings: wantFindings})
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s: verdict of the closure %s, of everything %s", ref, got.Word, want.Word)
		for _, r := range got.Reasons {
			if !slices.ContainsFunc(want.Reasons, func(o custody.Reason) bool { return reflect.DeepEqual(o, r) }) {
				t.Logf("only the closure: %+v", r)
			}
		}
		for _, r := range want.Reasons {
			if !slices.ContainsFunc(got.Reasons, func(o custody.Reason) bool { return reflect.DeepEqual(o, r) }) {
				t.Logf("only everything: %+v", r)
			}
		}
	}
}

// conclude gives the findings without their words, which name the first of the units that a
// statement speaks of: the closure has not all of them.
func conclude(h *custody.History, found [][]custody.Finding) []custody.Conclusion {
	cs := rules.ConcludeFrom(h, found)
	for i := range cs {
		cs[i].Words = fmt.Sprint(cs[i].Evidence)
	}
	return cs
}

func brief(h *custody.History) string {
	return fmt.Sprintf("keeper %s owner %s within %v holds %v recalls %v twins %v accused %v standing %v", h.Keeper, h.Owner, h.Within, h.Holds, h.Recalls, h.Twins, h.Accused, h.Parties())
}

func indexes(items []custody.Item) (list []uint64) {
	for _, it := range items {
		list = append(list, it.Index)
	}
	return list
}

// compareRows: every row that one of the closure's lists determines is the same.
func (f *full) compareRows(t *testing.T, ref custody.UnitRef, h *custody.History, lists map[entry.Topic]bool) {
	t.Helper()
	inClosure := func(key string) bool {
		topic, ok := custody.RowTopic(key)
		return ok && lists[topic]
	}
	for _, key := range h.State.Keys() {
		if inClosure(key) && !bytes.Equal(h.State[key], f.w.St[key]) {
			t.Errorf("%s: row %q differs from the replay's", ref, key)
			if key[0] == 'u' || key[0] == 'l' {
				r, _ := custody.ParseUnitRef(key[1:])
				t.Logf("closure %+v\nreplay  %+v", custody.LoadUnit(h.State, r), custody.LoadUnit(f.w.St, r))
			}
		}
	}
	for key := range f.w.St {
		if inClosure(key) && h.State[key] == nil {
			t.Errorf("%s: the closure lacks row %q", ref, key)
		}
	}
}

// compareEffects: what every entry did to every unit of the closure is the same.
func (f *full) compareEffects(t *testing.T, ref custody.UnitRef, h *custody.History, lists map[entry.Topic]bool) {
	t.Helper()
	at := map[uint64]custody.Effect{}
	for _, e := range h.Effects {
		at[e.Index] = e
	}
	for i, want := range f.w.Effects {
		listed := false
		for topic := range f.topics[i] {
			listed = listed || lists[topic]
		}
		got, ok := at[uint64(i)]
		if ok != listed {
			t.Errorf("%s: entry %d is in the closure: %t, listed: %t", ref, i, ok, listed)
		}
		if !ok {
			continue
		}
		a, b := unitsIn(got, lists), unitsIn(want, lists)
		// A later pack or unpack is not in its load's list: that share is the replay's.
		if len(a) != len(b) || (got.Refused == nil) != (want.Refused == nil) {
			t.Errorf("%s: entry %d (%s): effects %v refused %v, want %v refused %v", ref, i, want.Kind, a, got.Refused, b, want.Refused)
			continue
		}
		for j := range a {
			if a[j] != b[j] {
				t.Errorf("%s: entry %d (%s): effect\n%s, want\n%s", ref, i, want.Kind, a[j], b[j])
			}
		}
	}
}

func unitsIn(e custody.Effect, lists map[entry.Topic]bool) (list []string) {
	for _, u := range e.Units {
		if !lists[u.Unit.Topic()] || u.Unit.IsLoad() && contentsOnly(e, u) {
			continue
		}
		list = append(list, fmt.Sprintf("%s %s %s %s operator=%t late=%t rival=%s,%d head=%s", u.Unit, u.Kind, u.Outcome, u.Code, u.Operator, u.Late, u.Rival, u.RivalIndex, u.After.Head))
	}
	return list
}

// contentsOnly: the load's own share of a later pack or unpack.
func contentsOnly(e custody.Effect, u custody.UnitEffect) bool {
	return u.Contents
}

func (f *full) accused(lists map[entry.Topic]bool) (list []custody.Accusation) {
	for i, e := range f.w.Effects {
		listed := false
		for topic := range f.topics[i] {
			listed = listed || lists[topic]
		}
		if e.Refused != nil && listed {
			list = append(list, custody.Accusation{Index: e.Index, Code: custody.Code(e.Refused.Type)})
		}
		for _, u := range e.Units {
			if u.Operator && !u.Contents && lists[u.Unit.Topic()] {
				list = append(list, custody.Accusation{Index: u.Index, Code: u.Code, Unit: u.Unit.URI})
			}
		}
		for _, r := range e.Records {
			if r.Operator && lists[r.Topic] {
				list = append(list, custody.Accusation{Index: e.Index, Code: r.Code, Unit: r.Topic.Value})
			}
		}
	}
	return list
}

// stats counts what happened, so that a test of nothing does not pass.
type stats struct {
	outcomes map[string]int
	codes    map[custody.Code]int
	kinds    map[custody.Kind]int
	refused  map[string]int
	late     int

	concluded map[string]int // findings about units, by rule
	mu        sync.Mutex
}

func newStats() *stats {
	return &stats{outcomes: map[string]int{}, codes: map[custody.Code]int{}, kinds: map[custody.Kind]int{}, refused: map[string]int{}, concluded: map[string]int{}}
}

func (s *stats) add(f *full) {
	w := f.w
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range w.Effects {
		for _, u := range e.Units {
			s.outcomes[u.Outcome.String()]++
			s.codes[u.Code]++
			if u.Outcome == custody.Applied || u.Outcome == custody.Noted {
				s.kinds[u.Kind]++
			}
			if u.Late {
				s.late++
			}
		}
		for _, r := range e.Records {
			s.codes[r.Code]++
			if r.Outcome == custody.Applied {
				s.kinds[e.Kind]++
			}
		}
	}
	for k, n := range w.Refused {
		s.refused[k] += n
	}
	for k, n := range f.concluded {
		s.concluded[k] += n
	}
}

func (s *stats) String() string {
	return fmt.Sprintf("outcomes %v, late %d, kinds %v, codes %v, refused %v, findings %v", s.outcomes, s.late, s.kinds, s.codes, s.refused, s.concluded)
}

func (s *stats) wants(t *testing.T) {
	for _, k := range custody.Kinds() {
		switch k {
		case custody.KindLogKey, custody.KindWitnessPolicy, custody.KindRuleSet:
			continue // they only set one record
		}
		if s.kinds[k] == 0 {
			t.Errorf("no %s took effect in any world", k)
		}
	}
	for _, c := range custody.Codes() {
		if s.codes[c] == 0 && !unreached[c] {
			t.Errorf("no effect had code %s", c)
		}
	}
	for _, r := range rules.Table {
		if r.Local && r.Weight != custody.WeightBroken && s.concluded[string(r.ID)] == 0 {
			t.Errorf("no unit had a finding %s", r.ID)
		}
	}
	for _, p := range []string{"superseded", "already_recorded", "unpack_first", "predecessor_unknown", "key_taken", "wrong_role"} {
		if s.refused[p] == 0 {
			t.Errorf("the door never refused with %s", p)
		}
	}
}

// unreached codes need statements that Parse refuses, or far more of them.
var unreached = map[custody.Code]bool{
	custody.CodeSelf: true, custody.CodeOtherProduct: true, custody.CodeTooMany: true, custody.CodeBadKey: true,
	custody.CodeNoProduct: true, custody.CodeWrongRelease: true, custody.CodeNotInstalled: true,
}
