package gs1

import "strings"

// NearMisses returns identifiers that id is likely to be a misreading of: case
// swapped by caps lock, letters taken for digits and digits for letters, and
// white space or a trailing character lost. It is for hints beside "not in this
// ledger"; nothing is concluded from it. The order is fixed, without repeats.
func NearMisses(id ID) []ID {
	if id.Scheme != SGTIN && id.Scheme != LGTIN && id.Scheme != ITIP && id.Scheme != SGLN || id.Ext == "" {
		return nil
	}
	seen := map[string]bool{id.Ext: true}
	var out []ID
	add := func(ext string) {
		if seen[ext] {
			return
		}
		seen[ext] = true
		if m, err := New(id.Scheme, id.Key, ext); err == nil {
			out = append(out, m)
		}
	}
	add(strings.Map(swapCase, id.Ext))
	add(strings.ToUpper(id.Ext))
	add(strings.ToLower(id.Ext))
	for i := range len(id.Ext) {
		for _, c := range confused(id.Ext[i]) {
			add(id.Ext[:i] + string(c) + id.Ext[i+1:])
		}
	}
	return out
}

func swapCase(r rune) rune {
	switch {
	case 'a' <= r && r <= 'z':
		return r - 0x20
	case 'A' <= r && r <= 'Z':
		return r + 0x20
	}
	return r
}

// confused returns the characters that c is often mistaken for.
func confused(c byte) []byte {
	for _, set := range []string{"0OoQ", "1Il", "2Zz", "5Ss", "8B", "6G", "-_"} {
		if strings.IndexByte(set, c) >= 0 {
			return []byte(strings.Replace(set, string(rune(c)), "", 1))
		}
	}
	return nil
}
