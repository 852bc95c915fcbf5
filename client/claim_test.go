package client

import (
	"fmt"
	"testing"

	"fabtrail.dev/fabtrail/custody"
)

// The sentence that people read, word for word.
func TestClaim(t *testing.T) {
	const asOf = " as of entry 48,210; "
	statements := map[int][2]string{ // with an index witness, and without
		0: {"There is no statement about this serial", "The operator lists no statement about this serial"},
		1: {"This is the only statement about this serial", "The operator lists one statement about this serial"},
		7: {"These are all 7 statements about this serial", "The operator lists 7 statements about this serial"},
	}
	checked := map[int]string{
		0: "completeness: operator's word, auditable; ",
		1: "checked by 1 index witness, ",
		2: "checked by 2 index witnesses, ",
	}
	cosigned := map[[2]int]string{
		{3, 3}: "cosigned by 3 of 3.",
		{2, 3}: "cosigned by 2 of 3.",
		{1, 1}: "cosigned by 1 of 1.",
		{0, 0}: "cosigned by nobody, as no witness is trusted.",
	}
	for n, words := range statements {
		for indexed, second := range checked {
			first := words[0]
			if indexed == 0 {
				first = words[1]
			}
			for c, third := range cosigned {
				r := Report{AsOf: &AsOf{Cosigners: make([]string, c[0]), Witnesses: c[1], IndexWitnesses: make([]string, indexed)}}
				if got, want := r.claim(n, 48_211), first+asOf+second+third; got != want {
					t.Errorf("%d statements, %d index witnesses, %d of %d:\n got %s\nwant %s", n, indexed, c[0], c[1], got, want)
				}
			}
		}
	}
	for _, tc := range []struct {
		statements, carried int
		index               []string
		want                string
	}{
		{1, 1, []string{"x"}, "This is the only statement about this serial, with the only one about what it travelled in, as of entry 9; checked by 1 index witness, "},
		{1, 8, []string{"x"}, "This is the only statement about this serial, with all 8 about what it travelled in, as of entry 9; checked by 1 index witness, "},
		{7, 1, []string{"x"}, "These are all 7 statements about this serial, with the only one about what it travelled in, as of entry 9; checked by 1 index witness, "},
		{7, 8, []string{"x"}, "These are all 7 statements about this serial, with all 8 about what it travelled in, as of entry 9; checked by 1 index witness, "},
		{1, 1, nil, "The operator lists one statement about this serial, and one about what it travelled in, as of entry 9; completeness: operator's word, auditable; "},
		{7, 8, nil, "The operator lists 7 statements about this serial, and 8 about what it travelled in, as of entry 9; completeness: operator's word, auditable; "},
	} {
		r := Report{AsOf: &AsOf{Cosigners: []string{"a", "b", "c"}, Witnesses: 3, IndexWitnesses: tc.index}}
		for i := range tc.statements + tc.carried {
			l := Line{Kind: custody.KindRelease}
			if i >= tc.statements {
				l.On = fmt.Sprintf("https://id.gs1.org/00/%d", i)
			}
			r.Lines = append(r.Lines, l)
		}
		if got, want := r.claim(tc.statements, 10), tc.want+"cosigned by 3 of 3."; got != want {
			t.Errorf("%d statements and %d:\n got %s\nwant %s", tc.statements, tc.carried, got, want)
		}
	}
}
