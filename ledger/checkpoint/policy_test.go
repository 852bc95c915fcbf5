package checkpoint

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	fwitness "github.com/transparency-dev/formats/witness"
	"pgregory.net/rapid"
)

// policyText writes a policy over the test log and the named witnesses, with
// further lines after them.
func policyText(t testing.TB, names []string, lines ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "log %s\n", logKey(t).VKey())
	for _, n := range names {
		fmt.Fprintf(&b, "witness %s %s https://%s.example/\n", n, wit(t, n).VKey(), n)
	}
	for _, l := range lines {
		b.WriteString(l + "\n")
	}
	return b.String()
}

func TestPolicyRefuses(t *testing.T) {
	lk, a, b := logKey(t).VKey(), wit(t, "a").VKey(), wit(t, "b").VKey()
	aAsB, err := NewVKey("other.example", TypeCosigner, a.Key)
	if err != nil {
		t.Fatal(err)
	}
	logAsOther, err := NewVKey("other.example", TypeLog, lk.Key)
	if err != nil {
		t.Fatal(err)
	}
	two := policyText(t, []string{"a", "b"})
	for name, text := range map[string]string{
		"empty":                        "",
		"no quorum":                    two,
		"two quorums":                  two + "quorum a\nquorum a\n",
		"quorum without a name":        two + "quorum\n",
		"quorum with two names":        two + "quorum a b\n",
		"quorum undefined":             two + "quorum c\n",
		"quorum before its definition": "quorum a\n" + two,
		"threshold zero":               two + "group g 0 a b\nquorum g\n",
		"empty group, threshold zero":  two + "group g 0\nquorum g\n",
		"empty group, all":             two + "group g all\nquorum g\n",
		"threshold above the members":  two + "group g 3 a b\nquorum g\n",
		"threshold 02":                 two + "group g 02 a b\nquorum g\n",
		"threshold +1":                 two + "group g +1 a b\nquorum g\n",
		"threshold 2^64+1":             two + "group g 18446744073709551617 a b\nquorum g\n",
		"threshold ALL":                two + "group g ALL a b\nquorum g\n",
		"member undefined":             two + "group g any c\nquorum g\n",
		"member none":                  two + "group g any none\nquorum g\n",
		"member of itself":             two + "group g any g\nquorum g\n",
		"member defined later":         two + "group g any h\ngroup h any a\nquorum g\n",
		"member twice in a group":      two + "group g 2 a a\nquorum g\n",
		"member of two groups":         two + "group g any a\ngroup h any a b\ngroup q all g h\nquorum q\n",
		"group defined twice":          two + "group g any a\ngroup g any b\nquorum g\n",
		"group with a witness's name":  two + "group a any b\nquorum a\n",
		"witness defined twice":        two + "witness a " + aAsB.String() + "\nquorum a\n",
		"witness key twice":            two + "witness c " + aAsB.String() + "\nquorum a\n",
		"witness named none":           "witness none " + a.String() + "\nquorum none\n",
		"witness without a key":        "witness a\nquorum none\n",
		"witness with five fields":     "witness a " + a.String() + " http://x y\nquorum a\n",
		"witness with a log's key":     "witness a " + lk.String() + "\nquorum a\n",
		"log with a witness's key":     "log " + a.String() + "\nquorum none\n",
		"log key twice":                "log " + lk.String() + "\nlog " + logAsOther.String() + "\nquorum none\n",
		"log line damaged":             "log x\nquorum none\n",
		"log with four fields":         "log " + lk.String() + " http://x y\nquorum none\n",
		"unknown keyword":              two + "mirror a\nquorum a\n",
		"keyword in capitals":          two + "QUORUM a\n",
		"comment after a line":         two + "quorum a # why\n",
		"no newline at the end":        two + "quorum a",
		"carriage returns":             strings.ReplaceAll(two+"quorum a\n", "\n", "\r\n"),
		"NUL":                          two + "quorum a\x00\n",
		"DEL":                          two + "# \x7f\nquorum a\n",
		"vertical tab for a space":     two + "quorum\va\n",
		"no-break space for a space":   two + "quorum\u00a0a\n",
		"byte order mark":              "\ufeff" + two + "quorum a\n",
		"witness key ID wrong":         "witness a " + strings.Replace(a.String(), "+", "+0", 1) + "\nquorum a\n",
		"witness key of another":       "witness a " + strings.Replace(b.String(), "b.example", "a.example", 1) + "\nquorum a\n",
		"too long":                     two + "quorum a\n" + strings.Repeat("#"+strings.Repeat("x", 1000)+"\n", 300),
	} {
		if _, err := ParsePolicy([]byte(text)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPolicyAccepts(t *testing.T) {
	for name, text := range map[string]string{
		"quorum none alone":          "quorum none\n",
		"comments, tabs, high bytes": "# \xff\xfe\n\n \t# x\n" + policyText(t, []string{"a"}, "group\tg\tany\ta", " quorum \t g "),
		"name in high bytes":         "witness \xff " + wit(t, "a").VKey().String() + "\nquorum \xff\n",
		"group named all":            policyText(t, []string{"a"}, "group all all a", "quorum all"),
		"witness without a URL":      "witness a " + wit(t, "a").VKey().String() + "\nquorum a\n",
		"32 of each":                 manyPolicy(t, 32),
	} {
		if _, err := ParsePolicy([]byte(text)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func manyPolicy(t testing.TB, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "log %s\n", signer(t, fmt.Sprintf("log%d.example", i), TypeLog).VKey())
		fmt.Fprintf(&b, "witness w%d %s\n", i, wit(t, fmt.Sprint("w", i)).VKey())
	}
	for i := range n - 1 {
		fmt.Fprintf(&b, "group g%d any w%d\n", i, i)
	}
	b.WriteString("group q all")
	for i := range n - 1 {
		fmt.Fprintf(&b, " g%d", i)
	}
	return b.String() + "\nquorum q\n"
}

// The quorum's time is the latest at which the cosignatures not older than it
// still are a quorum, computed here by trying every time.
func TestQuorumTime(t *testing.T) {
	names := []string{"a", "b", "c", "d", "e"}
	p, err := ParsePolicy([]byte(policyText(t, names, "group x 2 a b c", "group q all x d", "quorum q")))
	if err != nil {
		t.Fatal(err)
	}
	cp := cpAt(9)
	rapid.Check(t, func(rt *rapid.T) {
		times := map[string]uint64{}
		order := rapid.Permutation(names).Draw(rt, "order")[:rapid.IntRange(0, 5).Draw(rt, "count")]
		for _, n := range order {
			times[n] = rapid.Uint64Range(1, 6).Draw(rt, n)
		}
		var want uint64
		for at := uint64(1); at <= 6; at++ {
			in := func(n string) int {
				if times[n] >= at {
					return 1
				}
				return 0
			}
			if in("a")+in("b")+in("c") >= 2 && in("d") == 1 {
				want = at
			}
		}
		note := signed(t, cp, times, order...).Marshal()
		got, err := p.Verify(note)
		if want == 0 {
			if !errors.Is(err, ErrNoQuorum) {
				rt.Fatalf("%v: %+v, %v; want no quorum", times, got, err)
			}
			return
		}
		if err != nil || got.QuorumTime != want || got.Checkpoint != cp || len(got.Cosigs) != len(order) {
			rt.Fatalf("%v: %+v, %v; want time %d", times, got, err, want)
		}
		for _, c := range got.Cosigs {
			if !slices.Contains(order, c.Name) || c.Time != times[c.Name] {
				rt.Fatalf("cosignature of %s at %d", c.Name, c.Time)
			}
		}
	})
}

func TestPolicyVerifyRefuses(t *testing.T) {
	p, err := ParsePolicy([]byte(policyText(t, []string{"a", "b", "spare"}, "group q any a b", "quorum q")))
	if err != nil {
		t.Fatal(err)
	}
	good := signed(t, cpAt(5), map[string]uint64{"a": 3, "spare": 4}, "a", "spare")
	badSpare := Note{good.Text, slices.Clone(good.Sigs)}
	badSpare.Sigs[2].Sig = slices.Clone(badSpare.Sigs[2].Sig)
	badSpare.Sigs[2].Sig[30] ^= 1
	foreign := cpAt(5)
	foreign.Origin = "other.example"
	sig, err := signer(t, "other.example", TypeLog).SignLog(foreign.Text())
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		n    Note
		want error
	}{
		"good":                        {good, nil},
		"unknown signature beside":    {Note{good.Text, append(slices.Clone(good.Sigs), NoteSig{"z", 1, []byte("junk!")})}, nil},
		"not in the quorum alone":     {signed(t, cpAt(5), map[string]uint64{"spare": 4}, "spare"), ErrNoQuorum},
		"bad one outside the quorum":  {badSpare, ErrBadSignature},
		"cosigned, not by the log":    {Note{good.Text, good.Sigs[1:]}, ErrNoSignature},
		"another log":                 {Note{foreign.Text(), []NoteSig{sig}}, ErrUnknownLog},
		"another log under this name": {Note{cpAt(5).Text(), append([]NoteSig{sig}, good.Sigs[1:]...)}, ErrNoSignature},
		"text is no checkpoint":       {Note{"hello\n", good.Sigs}, ErrMalformed},
	} {
		if _, err := p.Verify(c.n.Marshal()); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if _, err := p.Verify([]byte("x")); !errors.Is(err, ErrMalformed) {
		t.Errorf("no note: %v", err)
	}
}

// Where one origin has two keys (a log's key succeeds another), either suffices.
func TestPolicyTwoLogKeys(t *testing.T) {
	next, err := NewSigner(origin, TypeLog, seed("successor"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := ParsePolicy([]byte(fmt.Sprintf("log %s\nlog %s\nquorum none\n", logKey(t).VKey(), next.VKey())))
	if err != nil {
		t.Fatal(err)
	}
	text := cpAt(2).Text()
	sig, err := next.SignLog(text)
	if err != nil {
		t.Fatal(err)
	}
	n := Note{text, []NoteSig{sig}}
	if c, err := p.Verify(n.Marshal()); err != nil || c.QuorumTime != 0 {
		t.Errorf("successor's signature: %+v, %v", c, err)
	}
	n.Sigs[0].Sig[0] ^= 1
	n.Sigs = append(n.Sigs, signed(t, cpAt(2), nil).Sigs...)
	if _, err := p.Verify(n.Marshal()); !errors.Is(err, ErrBadSignature) {
		t.Errorf("bad signature by one of two: %v", err)
	}
}

// transparency-dev/formats, which is laxer, evaluates the policies that we
// accept the same way.
func TestPolicyAgreesWithFormats(t *testing.T) {
	names := []string{"a", "b", "c", "d"}
	text := policyText(t, names, "group x 2 a b c", "group q any x d", "quorum q")
	p, err := ParsePolicy([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	other, err := fwitness.ParsePolicy([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	for set := range 1 << len(names) {
		times := map[string]uint64{}
		var order []string
		for i, n := range names {
			if set&(1<<i) != 0 {
				times[n], order = 7, append(order, n)
			}
		}
		note := signed(t, cpAt(4), times, order...).Marshal()
		_, err := p.Verify(note)
		if ok := other.Satisfied(note); ok != (err == nil) {
			t.Errorf("%v: theirs %v, ours %v", order, ok, err)
		}
	}
}

func FuzzPolicy(f *testing.F) {
	f.Add([]byte(policyText(f, []string{"a", "b", "c"}, "group g 2 a b c", "quorum g")))
	f.Add([]byte("quorum none\n"))
	f.Add([]byte("group g 0\nquorum g\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParsePolicy(b)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		// no cosignature at all satisfies only the quorum none, all always do
		if p.Satisfied(func(string) bool { return false }) != (p.quorum == "none") {
			t.Fatalf("%q is satisfied by nobody", b)
		}
		if !p.Satisfied(func(string) bool { return true }) {
			t.Fatalf("%q is not satisfied by everybody", b)
		}
	})
}
