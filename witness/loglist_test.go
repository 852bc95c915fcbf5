package witness

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"fabtrail.dev/fabtrail/ledger/checkpoint"
)

func TestParseLogList(t *testing.T) {
	a, b := newSigner(t, "a.example/log", checkpoint.TypeLog).VKey(), newSigner(t, "b.example", checkpoint.TypeLog).VKey()
	w := newSigner(t, "w.example", checkpoint.TypeCosigner).VKey()
	item := func(k checkpoint.VKey, more string) string {
		return "vkey " + k.String() + "\n" + more + "qpd 24\ncontact sysadmin (at) example.org\n"
	}
	good := "#\n# List: test\n#\nlogs/v0\n\n# first\n" + item(a, "") + "\n" + item(b, "origin other.example\nbastion none\n")
	logs, err := ParseLogList([]byte(good))
	if err != nil {
		t.Fatal(err)
	}
	if len(logs) != 2 || logs[0].Origin != "a.example/log" || logs[1].Origin != "other.example" || logs[0].PerDay != 24 ||
		logs[1].Keys[0].String() != b.String() {
		t.Errorf("read %+v", logs)
	}
	if logs, err := ParseLogList([]byte("logs/v0\n")); err != nil || len(logs) != 0 {
		t.Errorf("an empty list: %v, %v", logs, err)
	}
	if logs, err := ParseLogList([]byte("logs/v0\n" + item(a, "origin none\n"))); err != nil || logs[0].Origin != a.Name {
		t.Errorf("origin none: %v, %v", logs, err)
	}
	for name, text := range map[string]string{
		"empty":             "",
		"no header":         item(a, ""),
		"other version":     "logs/v1\n" + item(a, ""),
		"header twice":      "logs/v0\nlogs/v0\n",
		"before the vkey":   "logs/v0\nqpd 24\n" + item(a, ""),
		"unknown keyword":   "logs/v0\n" + item(a, "colour red\n"),
		"keyword twice":     "logs/v0\n" + item(a, "qpd 24\n"),
		"key twice":         "logs/v0\n" + item(a, "") + item(a, "origin x\n"),
		"witness's key":     "logs/v0\n" + item(w, ""),
		"damaged key":       "logs/v0\n" + strings.Replace(item(a, ""), "+A", "+B", 1),
		"no qpd":            "logs/v0\nvkey " + a.String() + "\ncontact x\n",
		"no contact":        "logs/v0\nvkey " + a.String() + "\nqpd 1\n" + item(b, ""),
		"qpd none":          "logs/v0\n" + strings.Replace(item(a, ""), "24", "none", 1),
		"qpd zero":          "logs/v0\n" + strings.Replace(item(a, ""), "24", "0", 1),
		"qpd not a number":  "logs/v0\n" + strings.Replace(item(a, ""), "24", "NaN", 1),
		"keyword alone":     "logs/v0\n" + item(a, "bastion\n"),
		"carriage returns":  strings.ReplaceAll(good, "\n", "\r\n"),
		"space before word": "logs/v0\n " + item(a, ""),
		"too long":          "logs/v0\n" + strings.Repeat("#\n", maxLogList/2),
	} {
		if logs, err := ParseLogList([]byte(text)); !errors.Is(err, ErrLogList) {
			t.Errorf("%s: %v, %v", name, logs, err)
		}
	}
}

func FuzzParseLogList(f *testing.F) {
	k := newSigner(f, "a.example/log", checkpoint.TypeLog).VKey()
	f.Add([]byte("logs/v0\n\nvkey " + k.String() + "\nqpd 24\ncontact x\n"))
	f.Add([]byte("# x\nlogs/v0\nvkey " + k.String() + "\norigin y\nbastion none\nqpd 1.5\ncontact x\n"))
	f.Add([]byte("logs/v0\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		logs, err := ParseLogList(b)
		if err != nil {
			return
		}
		var w bytes.Buffer // what was read says the same when it is written
		w.WriteString("logs/v0\n")
		for _, l := range logs {
			if l.Origin == "" || len(l.Keys) != 1 || !(l.PerDay > 0) {
				t.Fatalf("read %+v", l)
			}
			fmt.Fprintf(&w, "vkey %s\norigin %s\nqpd %v\ncontact x\n", l.Keys[0], l.Origin, l.PerDay)
		}
		again, err := ParseLogList(w.Bytes())
		if err != nil || len(again) != len(logs) {
			t.Fatalf("%v, read %+v, then %+v", err, logs, again)
		}
		for i := range logs {
			if logs[i].Origin != again[i].Origin && logs[i].Origin != "none" || logs[i].PerDay != again[i].PerDay {
				t.Fatalf("read %+v, then %+v", logs[i], again[i])
			}
		}
	})
}

// A log's daily allowance: an hour's worth at once, at least ten, and no other
// log pays for it.
func TestPerDay(t *testing.T) {
	for perDay, burst := range map[float64]int{24: 10, 2400: 100} {
		f := newWitness(t, "w.example", func(c *Config) { c.Logs[0].PerDay = perDay })
		f.advance(t, 0, 5)
		body := f.log.request(t, 5, 5).Marshal()
		n := 1
		for ; n <= burst; n++ {
			if w := post(f, body); w.Code != 200 {
				break
			}
		}
		if w := post(f, body); n != burst || w.Code != 429 || w.Header().Get("Retry-After") == "" {
			t.Errorf("%v a day: %d at once, then %d", perDay, n, w.Code)
		}
		f.clock.Add(24 * time.Hour / time.Duration(perDay))
		if w := post(f, body); w.Code != 200 {
			t.Errorf("%v a day: %d after a while", perDay, w.Code)
		}
	}
}
