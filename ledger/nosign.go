package ledger

import (
	"errors"
	"strings"
)

// What an operator can do when signing is refused. The words in braces become
// the paths of the ledger concerned; see words.
const (
	wayFsck = "see what is damaged with 'fabtraild fsck --data {data}'; it says what 'fabtraild fsck --repair --write --data {data}' can make right, " +
		"and the rest comes from a backup: 'fabtraild restore BACKUP --data NEW-FOLDER --tail {data}'"
	wayRestore = "restore the newest backup into a new folder, with what is left here: 'fabtraild restore BACKUP --data NEW-FOLDER --tail {data}'; " +
		"change nothing in {truth} and {journal}"
	wayJournal = "put {journal} back as it was; if it is lost for good, 'fabtraild restore --new-journal --data {data}' asks the witnesses " +
		"whether {truth} is the newest state there is, and only then begins a new journal: starting without one could fork the log"
	wayOther = "start with the folder and the keys of one and the same log: the public half of {data}/keys/log.skey is {data}/trust/log.vkey"
	wayAhead = "find the newer copy of {data}, or restore the newest backup with what others still have: " +
		"'fabtraild restore BACKUP --data NEW-FOLDER --tail FROM', FROM being a data or journal folder, or the address of a server that has these entries; " +
		"if nobody has them, this log has ended: begin a new one"
	wayMore = "find a newer backup, or name another source of these entries with one more --tail FROM, in order: a data or journal folder, or the address " +
		"of a server that has them; if nobody has them, this log has ended: begin a new one"
	wayFork = "{data} is not the log that was signed: keep it as it is, as evidence, and restore the right one: " +
		"'fabtraild restore BACKUP --data NEW-FOLDER --tail FROM'"
	wayVersion = "start with the version of fabtraild that wrote the log; if that is this one, 'fabtraild fsck --data {data}' says what is damaged"
	wayAsk     = "bring enough of them back, or up to date, and run the command again; it needs a quorum of answers, and too few silent witnesses to reach the quorum without the others"
	waySeen    = "give the newest checkpoint that anybody holds with --seen FILE: a monitor's, a client's, or that of the newest receipt; " +
		"BACKUP/checkpoint is right only if nobody can have seen a newer one"
	wayEngine = "bring the engine back to its newest state: it was restored from an old backup, or it is another tree; if there is no newer one, " +
		"'fabtraild migrate --data {data} ...' gives it the entries that are here, unless somebody knows of more"
)

// words puts the ledger's paths into the way out of a refusal, wherever in err's
// tree it is.
func (c *Config) words(err error) error {
	var no *NoSign
	if errors.As(err, &no) {
		no.WayOut = strings.NewReplacer("{data}", c.folder(), "{truth}", c.FS.PathJoin(c.Dir, truthDir),
			"{journal}", c.FS.PathJoin(c.Dir, journalDir)).Replace(no.WayOut)
	}
	return err
}

// folder is how commands name this ledger.
func (c *Config) folder() string {
	if c.Folder != "" {
		return c.Folder
	}
	return c.Dir
}
