package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"

	"fabtrail.dev/fabtrail/client"
	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// said is how a command ended, and what it said.
type said struct {
	code     int
	out, err string
}

func (s said) String() string { return fmt.Sprintf("exit %d\n%s%s", s.code, s.out, s.err) }

// attempt runs a command that may fail.
func attempt(t *testing.T, args ...string) said {
	t.Helper()
	cmd := command(t, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if e := (*exec.ExitError)(nil); err != nil && !errors.As(err, &e) {
		t.Fatal(err)
	}
	return said{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

// ends runs a command that must end with the code and say each of the words.
func ends(t *testing.T, code int, words []string, args ...string) {
	t.Helper()
	s := attempt(t, args...)
	if s.code != code {
		t.Errorf("fabtraild %v: %v\nwant exit %d", args, s, code)
	}
	for _, w := range words {
		if !strings.Contains(s.out+s.err, w) {
			t.Errorf("fabtraild %v: %v\nwant the words %q", args, s, w)
		}
	}
}

// asJSON runs a command with --json and returns the one object that it prints.
func asJSON(t *testing.T, code int, args ...string) map[string]any {
	t.Helper()
	s := attempt(t, append(args, "--json")...)
	text := s.out
	if text == "" {
		text = s.err
	}
	d := json.NewDecoder(strings.NewReader(text))
	var v map[string]any
	if err := d.Decode(&v); err != nil || d.More() || s.code != code {
		t.Fatalf("fabtraild %v --json: %v\nwant exit %d and one object (%v)", args, s, code, err)
	}
	if exit, ok := v["exit"]; ok && exit != float64(code) {
		t.Errorf("fabtraild %v --json ends with %d and says %v", args, code, exit)
	}
	return v
}

// station is a ledger that was written to, with a witness of its own, both processes.
type station struct {
	t       *testing.T
	dir     string // data folder
	witness *running
	ledger  *process
	url     string
	token   string
	w       *writer
}

func newStation(t *testing.T, statements int) *station {
	t.Helper()
	s := &station{t: t, dir: filepath.Join(t.TempDir(), "ledger")}
	run(t, "init", "--data", s.dir, "--origin", "ledger.test/disaster", "--operator", operatorParty)
	s.token = filepath.Join(s.dir, "admin.token")
	run(t, "token", "--data", s.dir, "--party", operatorParty, "--scope", "admin", "--scope", "audit", "--out", s.token)
	s.witness = startWitness(t, "w1.test", "--log", filepath.Join(s.dir, "trust", "log.vkey"))
	s.start("--quorum", "1", "--witness", s.witness.URL+"="+s.witness.VKey)
	s.w = &writer{t: t, ack: &acknowledged{receipts: map[entry.Hash]*client.Recorded{}}}
	c := s.w.connect(s.dir, s.url, s.token)
	s.w.enrol(patience(t), c, s.dir)
	s.say(statements)
	return s
}

func (s *station) start(args ...string) {
	s.t.Helper()
	var started struct{ URL string }
	s.ledger = background(s.t, &started, append([]string{"serve", "--data", s.dir, "--listen", "127.0.0.1:0"}, args...)...)
	s.url = started.URL
}

// say posts statements as one batch.
func (s *station) say(n int) {
	s.t.Helper()
	c := s.w.connect(s.dir, s.url, s.token)
	var batch [][]byte
	for range n {
		batch = append(batch, s.w.next())
	}
	out, err := c.SubmitBatch(patience(s.t), batch)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, o := range out {
		if o.Err != nil {
			s.t.Fatal(o.Err)
		}
		s.w.ack.add(o.Recorded)
	}
}

// manifest uploads one that no statement names.
func (s *station) manifest() [sha256.Size]byte {
	s.t.Helper()
	m, err := custody.NewManifest([]custody.Member{{URI: "https://id.gs1.org/8004/9506000CRASHLOT", Salt: entry.Hash{1}}})
	if err != nil {
		s.t.Fatal(err)
	}
	token := filepath.Join(s.t.TempDir(), "token")
	run(s.t, "token", "--data", s.dir, "--party", crashParty, "--out", token)
	c := s.w.connect(s.dir, s.url, token)
	if err := c.Remote.PutManifest(patience(s.t), m.Digest().String(), m.Marshal()); err != nil {
		s.t.Fatal(err)
	}
	return m.Digest()
}

// firstKey is the first row of a key space of the database.
func (s *station) firstKey(space byte) (key []byte) {
	s.t.Helper()
	damaged{key: nil, find: func(db *pebble.DB) error {
		it, err := db.NewIter(&pebble.IterOptions{LowerBound: []byte{space}, UpperBound: []byte{space + 1}})
		if err != nil {
			return err
		}
		if it.First() {
			key = bytes.Clone(it.Key())
		}
		return it.Close()
	}}.do(s.t, copyOf(s.t, s.dir))
	return key
}

// copyOf copies a folder.
func copyOf(t *testing.T, dir string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	copyFolder(t, to, dir)
	return to
}

// copyFolder copies a data folder or one of those in it; keys stay their owner's.
func copyFolder(t *testing.T, to, from string) {
	t.Helper()
	err := os.CopyFS(to, os.DirFS(from))
	if filepath.Base(to) != "keys" {
		to = filepath.Join(to, "keys")
	}
	keys, gerr := filepath.Glob(filepath.Join(to, "*"))
	err = errors.Join(err, gerr)
	for _, key := range keys { // CopyFS widens modes
		err = errors.Join(err, os.Chmod(key, 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestBackupAndRestore is an operator's year: a backup of the running ledger, and what
// each way of restoring it does, refuses, and says to do next.
func TestBackupAndRestore(t *testing.T) {
	s := newStation(t, 3)
	backup := filepath.Join(t.TempDir(), "monday")
	ends(t, 1, []string{"in use by another process", "stop it first", "fabtraild backup TO --data " + s.dir}, "fsck", "--data", s.dir)
	ends(t, 0, []string{"entries of ledger.test/disaster, a ledger that runs; checked", "private keys are not in it"}, "backup", backup, "--data", s.dir)
	ends(t, 0, []string{"clean: "}, "fsck", "--data", backup)
	ends(t, 1, []string{"is there already"}, "backup", backup, "--data", s.dir)
	ends(t, 1, []string{"inside the data folder"}, "backup", filepath.Join(s.dir, "b"), "--data", s.dir)
	ends(t, 1, []string{"is a backup: copy the folder as it is"}, "backup", backup+"2", "--data", backup)
	ends(t, 1, []string{"holds no ledger"}, "backup", backup+"2", "--data", t.TempDir())
	ends(t, 2, []string{"accepts 1 arg(s)", "backup --help"}, "backup", "--data", s.dir)
	with := asJSON(t, 0, "backup", backup+"-with-keys", "--data", s.dir, "--keys")
	if with["running"] != true || with["keys"] != true || with["origin"] != "ledger.test/disaster" || len(with["files"].([]any)) == 0 {
		t.Errorf("%v", with)
	}
	ends(t, 3, []string{"refusing to sign", "is a backup", "fabtraild restore " + backup + " --data NEW-FOLDER"},
		"serve", "--data", backup, "--listen", "127.0.0.1:0")

	// What was logged since is with the running ledger alone.
	had := int(with["size"].(float64))
	s.say(2)
	to := filepath.Join(t.TempDir(), "restored")
	restore := func(more ...string) []string {
		return append([]string{"restore", backup, "--data", to, "--keys", filepath.Join(s.dir, "keys")}, more...)
	}
	missing := []string{"refusing to restore", "witness w1.test's newest checkpoint", "are missing", "--tail FROM"}
	ends(t, 3, missing, restore()...)
	if e := asJSON(t, 3, restore()...)["error"].(map[string]any); !strings.Contains(e["detail"].(string), "are missing") {
		t.Errorf("%v", e)
	}
	ends(t, 1, []string{"withholds its cargo", "--token"}, restore("--tail", s.url)...)
	ends(t, 1, []string{"in use by another process", "give its address instead"}, restore("--tail", s.dir)...)
	ends(t, 1, []string{"is not a whole backup"}, "restore", s.dir, "--data", to)
	ends(t, 2, []string{"name one backup"}, "restore", "--data", to)
	ends(t, 2, []string{"takes no backup"}, "restore", backup, "--new-journal", "--data", to)
	if left, err := filepath.Glob(to + "*"); err != nil || len(left) > 0 {
		t.Errorf("what was refused has left %v %v", left, err)
	}
	r := asJSON(t, 0, restore("--tail", s.url, "--token", s.token)...)
	if r["data"] != to || int(r["backup"].(float64)) != had || int(r["size"].(float64)) <= had || r["keys"] != true || r["published"] != r["size"] {
		t.Errorf("%v", r)
	}
	ends(t, 1, []string{"is not empty: restore into a new folder"}, restore()...)
	ends(t, 0, []string{"clean: "}, "fsck", "--data", to)

	// The old folder has the notes, too, so that every receipt is the one of before.
	if code := s.ledger.stop(); code != 0 && code != 130 {
		t.Errorf("the ledger ended with %d", code)
	}
	to += "-again"
	ends(t, 0, []string{"newest checkpoint signed", "the old ledger does not run any more, anywhere; next: fabtraild serve --data " + to}, restore("--tail", s.dir)...)
	old := s.dir
	s.dir = to
	s.start()
	s.w.recheck(patience(t), s.w.connect(s.dir, s.url, s.token))
	s.say(1)
	s.ledger.kill()

	// The folder of before is behind now: the witness says so.
	ends(t, 3, []string{"refusing to sign", "a witness's checkpoint has size", "if nobody has them, this log has ended"}, "serve", "--data", old, "--listen", "127.0.0.1:0")
	badBackups(t, backup, filepath.Join(old, "keys"))
	s.witness.kill()
	to += "-and-again"
	ends(t, 3, []string{"too few witnesses said what they saw last", "bring enough of them back"}, restore("--tail", s.dir)...)
}

// badBackups: one that is not as it was written is named, and not restored.
func badBackups(t *testing.T, backup, keys string) {
	t.Helper()
	bad := copyOf(t, backup)
	if err := os.WriteFile(filepath.Join(bad, "charter.dsse.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	ends(t, 1, []string{"damage file ", "charter.dsse.json", "1 damage: ", "next: take another backup"}, "fsck", "--data", bad)
	d := asJSON(t, 1, "fsck", "--data", bad)
	if list := d["damage"].([]any); d["backup"] != true || len(list) != 1 || list[0].(map[string]any)["class"] != "file" {
		t.Errorf("%v", d)
	}
	ends(t, 1, []string{"is a backup", "restore it into a new folder"}, "fsck", "--repair", "--write", "--data", bad)
	ends(t, 1, []string{"the backup is damaged", "charter.dsse.json"}, "restore", bad, "--data", filepath.Join(t.TempDir(), "r"), "--keys", keys)
}

// TestRestoreWithoutWitnesses: nobody can be asked, so somebody must show the newest
// checkpoint; and a lost journal begins anew only then.
func TestRestoreWithoutWitnesses(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ledger")
	run(t, "init", "--data", dir, "--origin", "ledger.test/alone", "--operator", operatorParty)
	var started struct{ URL string }
	background(t, &started, "serve", "--data", dir, "--listen", "127.0.0.1:0").stop()
	backup := filepath.Join(t.TempDir(), "backup")
	ends(t, 0, []string{"a ledger that was stopped; checked"}, "backup", backup, "--data", dir)
	seen := filepath.Join(backup, "checkpoint")
	to := filepath.Join(t.TempDir(), "restored")
	ends(t, 3, []string{"the policy needs no witness", "--seen"}, "restore", backup, "--data", to)
	ends(t, 1, []string{"is no checkpoint of ledger.test/alone"}, "restore", backup, "--data", to, "--seen", filepath.Join(backup, "backup.json"))
	ends(t, 0, []string{"put the private keys into " + to + "/keys"}, "restore", backup, "--data", to, "--seen", seen)

	lost, err := filepath.Glob(filepath.Join(dir, "ledger", "journal", "*.journal"))
	if err != nil || len(lost) == 0 {
		t.Fatal(lost, err)
	}
	for _, f := range lost {
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
	ends(t, 1, []string{"damage journal 0: there is none"}, "fsck", "--data", dir)
	ends(t, 1, []string{"cannot repair journal 0", "next: fabtraild restore --new-journal --data " + dir}, "fsck", "--repair", "--data", dir)
	ends(t, 3, []string{"refusing to sign", "restore --new-journal --data " + dir}, "serve", "--data", dir, "--listen", "127.0.0.1:0")
	ends(t, 3, []string{"--seen"}, "restore", "--new-journal", "--data", dir)
	ends(t, 2, []string{"--new-journal goes with --data and --seen only"}, "restore", "--new-journal", "--data", dir, "--tail", to)
	ends(t, 0, []string{"a new journal begins"}, "restore", "--new-journal", "--data", dir, "--seen", seen)
	ends(t, 0, []string{"clean: "}, "fsck", "--data", dir)
}

// damaged is one way in which a ledger on disk is not as it was written, and what fsck
// says of it.
type damaged struct {
	name, class string
	index       int
	key         []byte // of a row of the database
	row         func(v []byte) []byte
	find        func(db *pebble.DB) error // or anything else done to it
	file        string                    // or a file below the ledger's folder
	edit        func(path string) error
	fixed       bool   // the repair makes it right
	next        string // else: part of what there is to do
}

func rowOf(space byte, n uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{space}, n)
}

func (d damaged) do(t *testing.T, dir string) {
	t.Helper()
	if d.edit != nil {
		files, err := filepath.Glob(filepath.Join(dir, "ledger", d.file))
		if err != nil || len(files) == 0 {
			t.Fatal(d.file, files, err)
		}
		if err := d.edit(files[len(files)-1]); err != nil {
			t.Fatal(err)
		}
		return
	}
	db, err := pebble.Open(filepath.Join(dir, "ledger", "truth"), &pebble.Options{FormatMajorVersion: pebble.FormatNewest, Logger: silent{}})
	if err != nil {
		t.Fatal(err)
	}
	if d.find != nil {
		if err := errors.Join(d.find(db), db.Close()); err != nil {
			t.Fatal(err)
		}
		return
	}
	v, c, err := db.Get(d.key)
	if err != nil {
		t.Fatalf("no row %q: %v", d.key, err)
	}
	v = d.row(bytes.Clone(v))
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if v == nil {
		err = db.Delete(d.key, pebble.Sync)
	} else {
		err = db.Set(d.key, v, pebble.Sync)
	}
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}

type silent struct{ pebble.Logger }

func (silent) Infof(string, ...any)  {}
func (silent) Errorf(string, ...any) {}

func flippedAt(at int) func([]byte) []byte {
	return func(v []byte) []byte { v[at] ^= 4; return v }
}

// otherBase64 changes a letter of the last signature of a note; it stays base64.
func otherBase64(v []byte) []byte {
	if at := len(v) - 20; v[at] == 'A' {
		v[at] = 'B'
	} else {
		v[at] = 'A'
	}
	return v
}

func gone([]byte) []byte { return nil }

// TestFsckCommand damages a ledger on disk in one way of each class: fsck names it by
// class and index, in words and as JSON; --repair changes nothing and says what can be
// made right and what to do else; --write makes it right, or changes nothing.
func TestFsckCommand(t *testing.T) {
	s := newStation(t, 300) // more than a tile
	sum := s.manifest()
	size := int(s.w.ack.size)
	if code := s.ledger.stop(); code != 0 && code != 130 {
		t.Fatalf("the ledger ended with %d", code)
	}
	s.witness.stop()
	ends(t, 0, []string{"clean: ", "entries, "}, "fsck", "--data", s.dir)
	ends(t, 0, []string{"nothing to repair: "}, "fsck", "--repair", "--data", s.dir)
	ends(t, 2, []string{"--write goes with --repair"}, "fsck", "--write", "--data", s.dir)
	ends(t, 1, []string{"holds no ledger"}, "fsck", "--data", t.TempDir())
	if c := asJSON(t, 0, "fsck", "--data", s.dir); len(c["damage"].([]any)) > 0 || c["size"] != c["signed"] || c["published"] != c["signed"] {
		t.Errorf("%v", c)
	}
	var someID entry.Hash
	for id := range s.w.ack.receipts {
		someID = id
	}
	const backup, journal = "fabtraild restore BACKUP --data NEW-FOLDER --tail ", "fabtraild restore --new-journal --data "
	for _, d := range []damaged{
		{name: "leaf", class: "leaf", index: 8, key: rowOf('l', 8), row: flippedAt(20), fixed: true},
		{name: "tile", class: "tile", index: 0, key: append([]byte{'t', 0}, rowOf(0, 0)[1:]...), row: flippedAt(77), fixed: true},
		{name: "tile of receipts", class: "receipt", index: 4, key: append([]byte{'t', 0}, rowOf(0, 0)[1:]...), row: flippedAt(77), fixed: true},
		{name: "root", class: "root", index: size, key: []byte("mh"), row: flippedAt(9), fixed: true},
		{name: "head", class: "head", index: 0, key: []byte("mh"), row: gone, fixed: true},
		{name: "cargo", class: "leaf", index: 5, key: rowOf('c', 5), row: flippedAt(90), next: backup},
		{name: "lost cargo", class: "entry", index: 7, key: rowOf('c', 7), row: gone, next: backup},
		{name: "statement ID", class: "id", index: int(s.w.ack.receipts[someID].Index), key: append([]byte{'d'}, someID[:]...), row: flippedAt(7), fixed: true},
		{name: "index row", class: "index-row", index: 0, key: s.firstKey('r'), row: flippedAt(8), fixed: true},
		{name: "lost index row", class: "index-root", index: size - 1, key: s.firstKey('r'), row: gone, fixed: true},
		{name: "row of a manifest", class: "manifest", index: 0, key: append([]byte{'u'}, sum[:]...), row: func(v []byte) []byte { return v[:5] }, fixed: true},
		{name: "manifest", class: "manifest", index: 0, key: append([]byte{'M'}, sum[:]...), row: flippedAt(3), fixed: true},
		{name: "note", class: "note", index: size, key: rowOf('n', uint64(size)), row: flippedAt(3), fixed: true},
		{name: "cosignature", class: "cosignature", index: size, key: rowOf('n', uint64(size)), row: otherBase64, fixed: true},
		{name: "checkpoint", class: "checkpoint", index: size, key: []byte("ms"), row: otherBase64, fixed: true},
		{name: "journal", class: "journal", index: 0, file: "journal/*.journal", edit: os.Remove, next: journal},
		{name: "database file", class: "database", index: 0, file: "truth/MANIFEST-*", edit: os.Remove, next: backup},
		{name: "database", class: "database", index: 0, file: "truth", edit: os.RemoveAll, next: backup},
	} {
		if testing.Short() && d.fixed && d.class != "tile" {
			continue
		}
		t.Run(d.name, func(t *testing.T) {
			dir := copyOf(t, s.dir)
			d.do(t, dir)
			d.look(t, dir)
		})
	}
}

func (d damaged) look(t *testing.T, dir string) {
	t.Helper()
	line := fmt.Sprintf("%s %d: ", d.class, d.index)
	ends(t, 1, []string{"damage " + line, "next: fabtraild fsck --repair --data " + dir}, "fsck", "--data", dir)
	named := false
	for _, x := range asJSON(t, 1, "fsck", "--data", dir)["damage"].([]any) {
		x := x.(map[string]any)
		named = named || x["class"] == d.class && x["index"] == float64(d.index) && x["detail"] != ""
	}
	if !named {
		t.Errorf("--json does not name %s", line)
	}
	if d.fixed {
		ends(t, 1, []string{"can repair " + line, " -> ", "nothing was changed yet; next: fabtraild fsck --repair --write --data " + dir}, "fsck", "--repair", "--data", dir)
		r := asJSON(t, 0, "fsck", "--repair", "--write", "--data", dir)
		if r["done"] != true || len(r["fixes"].([]any)) == 0 || len(r["left"].([]any)) > 0 {
			t.Errorf("%v", r)
		}
		if _, err := os.Stat(r["kept"].(string)); err != nil {
			t.Errorf("the database of before: %v", err)
		}
		ends(t, 0, []string{"clean: "}, "fsck", "--data", dir)
		return
	}
	code := 3 // it cannot be shown that the entries are those that were signed
	if d.class == "journal" {
		code = 1
	}
	for _, args := range [][]string{{"fsck", "--repair", "--data", dir}, {"fsck", "--repair", "--write", "--data", dir}} {
		ends(t, code, []string{"cannot repair " + line, "next: " + d.next + dir}, args...)
	}
	ends(t, 1, []string{"damage " + d.class}, "fsck", "--data", dir) // as it was
}
