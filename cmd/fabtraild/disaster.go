package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"fabtrail.dev/fabtrail/internal/cli"
	"fabtrail.dev/fabtrail/internal/node"
	"fabtrail.dev/fabtrail/ledger"
)

// meter shows what is being read and how far it is.
func meter(c *cobra.Command) (progress func(what string, done, total uint64), end func()) {
	bar := cli.NewBar(c.ErrOrStderr(), -1, "reading")
	return func(what string, done, total uint64) {
		bar.Title(what)
		bar.Total(int64(total))
		bar.Set(int64(done))
	}, bar.Done
}

func fsckCmd() *cobra.Command {
	var dir string
	var repair, write bool
	c := &cobra.Command{
		Use:   "fsck",
		Short: "Re-read everything that a ledger keeps on disk and check it, or repair it",
		Long: `Re-read everything that a ledger keeps on disk: leaves, tiles, root, cargo against
leaves, statement IDs, the index against its commitment, the journal, receipts,
checkpoints and cosignatures. Each damage is named by class and index. The ledger
must not be running; a backup is checked the same way, and by its own list of files.

--repair says what can be made right, and changes nothing. With --write it is done:
everything that follows from the entries (tiles, leaves, statement IDs, index,
state) is made anew from them, beside what is there, once the entries have been
shown to be those that were signed; entries that the journal still has take the
place of lost ones. The old database is kept under another name. What cannot be
proved is never touched; it comes from a backup ('fabtraild restore').

Exit codes: 0 sound, or repaired; 1 damaged; 2 wrong command line; 3 it could not be
repaired safely, and nothing was changed.`,
		Example: `  fabtraild fsck --data ./ledger
  fabtraild fsck --repair --data ./ledger
  fabtraild fsck --repair --write --data ./ledger`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if write && !repair {
				return cli.Usagef("--write goes with --repair")
			}
			progress, end := meter(c)
			if repair {
				r, err := node.Repair(c.Context(), node.Folder(dir), write, progress)
				end()
				return reportRepair(c, dir, r, err)
			}
			r, err := node.Fsck(c.Context(), node.Folder(dir), progress)
			end()
			if err != nil {
				return refused(err)
			}
			if err := cli.Print(c, r, func(w io.Writer) { writeCheck(w, r) }); err != nil {
				return err
			}
			if len(r.Damage) > 0 {
				switch {
				case cli.JSON(c):
				case r.Backup:
					fmt.Fprintf(c.OutOrStdout(), "next: take another backup; 'fabtraild restore' refuses this one\n")
				default:
					fmt.Fprintf(c.OutOrStdout(), "next: fabtraild fsck --repair --data %s says what can be made right\n", dir)
				}
				return cli.Quiet(cli.Failed)
			}
			return nil
		},
	}
	dataFlag(c, &dir, "the ledger's data folder, or a backup")
	c.Flags().BoolVar(&repair, "repair", false, "say what can be made right")
	c.Flags().BoolVar(&write, "write", false, "with --repair: do it")
	return c
}

func writeCheck(w io.Writer, r node.Checked) {
	for _, d := range neighbours(r.Damage, func(d ledger.Damage) (ledger.Damage, string) { return d, "" }) {
		fmt.Fprintln(w, cli.Colour(w, "red", "damage"), d)
	}
	if r.More > 0 {
		fmt.Fprintf(w, "and %d more\n", r.More)
	}
	fmt.Fprintf(w, "%s: %d entries, %d topics, root %s\n", r.Word(), r.Size, r.Topics, r.Root)
	if r.Beyond > 0 {
		fmt.Fprintf(w, "the journal has %d entries more, which the next start takes in\n", r.Beyond)
	}
}

// neighbours puts damages of one class in one line that have the same cause and follow
// each other: one block that cannot be read may hold a thousand entries.
func neighbours[D any](list []D, of func(D) (ledger.Damage, string)) (lines []string) {
	for i := 0; i < len(list); {
		first, more := of(list[i])
		n := 1
		for ; i+n < len(list); n++ {
			d, m := of(list[i+n])
			if d.Class != first.Class || d.Index != first.Index+uint64(n) || d.Detail != first.Detail || m != more {
				break
			}
		}
		line := first.String()
		if n > 1 {
			line = fmt.Sprintf("%s %d to %d: %s", first.Class, first.Index, first.Index+uint64(n)-1, first.Detail)
		}
		lines = append(lines, line+more)
		i += n
	}
	return lines
}

func reportRepair(c *cobra.Command, dir string, r node.Repaired, err error) error {
	if err != nil {
		return refused(err)
	}
	if err := cli.Print(c, r, func(w io.Writer) {
		word := "can repair"
		if r.Done {
			word = "repaired"
		}
		for _, f := range neighbours(r.Fixes, func(f ledger.Fix) (ledger.Damage, string) { return f.Damage, " -> " + f.How }) {
			fmt.Fprintln(w, cli.Colour(w, "green", word), f)
		}
		for _, d := range neighbours(r.Left, func(d ledger.Damage) (ledger.Damage, string) { return d, "" }) {
			fmt.Fprintln(w, cli.Colour(w, "red", "cannot repair"), d)
		}
		if r.Done {
			fmt.Fprintf(w, "the database of before is in %s; delete it when the ledger runs well\n", r.Kept)
			fmt.Fprint(w, "checked again: ")
			writeCheck(w, r.After)
		}
		switch {
		case len(r.Fixes)+len(r.Left) == 0:
			fmt.Fprintf(w, "nothing to repair: %d entries, root %s\n", r.After.Size, r.After.Root)
		case r.Refused != "":
			fmt.Fprintf(w, "nothing was changed: %s\nnext: fabtraild restore BACKUP --data NEW-FOLDER --tail %s\n", r.Refused, dir)
		case !r.Done && len(r.Fixes) > 0:
			fmt.Fprintf(w, "nothing was changed yet; next: fabtraild fsck --repair --write --data %s\n", dir)
		case len(r.Left) > 0:
			fmt.Fprintf(w, "next: %s\n", r.Next)
		}
	}); err != nil {
		return err
	}
	switch {
	case r.Refused != "":
		return cli.Quiet(cli.CouldNot)
	case len(r.Left) > 0 || !r.Done && len(r.Fixes) > 0:
		return cli.Quiet(cli.Failed)
	}
	return nil
}

func backupCmd() *cobra.Command {
	var dir string
	var keys bool
	c := &cobra.Command{
		Use:   "backup TO",
		Short: "Copy a ledger, running or not, into a new folder, and check the copy",
		Long: `Copy a ledger into the new folder TO. A running ledger is asked for a consistent
copy over the socket DIR/control.sock, which only the owner of the data folder can
use, and goes on meanwhile. The copy is read again and checked like 'fabtraild fsck'
does before it gets its name: a folder with backup.json is whole.

Private keys are not copied: keep them offline, apart from backups. With --keys they
are, and whoever has the backup can then fork the log. Views are not copied: they
are made anew. The backup must not be served; it is older than the ledger.`,
		Example: `  fabtraild backup /mnt/backups/2026-11-22 --data ./ledger
  fabtraild backup /mnt/vault/2026-11-22 --data ./ledger --keys`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			progress, end := meter(c)
			r, err := node.Backup(c.Context(), node.BackupConfig{Folder: node.Folder(dir), To: args[0], Keys: keys, Progress: progress})
			end()
			if err != nil {
				return refused(err)
			}
			return cli.Print(c, r, func(w io.Writer) {
				how := "that was stopped"
				if r.Running {
					how = "that runs"
				}
				fmt.Fprintf(w, "%s: %d entries of %s, a ledger %s; checked\n", args[0], r.Size+r.Beyond, r.Origin, how)
				if keys {
					fmt.Fprintln(w, "private keys are in it: whoever has this backup can fork the log")
				} else {
					fmt.Fprintf(w, "private keys are not in it: keep a copy of %s/keys offline, or restoring will need them\n", dir)
				}
			})
		},
	}
	dataFlag(c, &dir, "the ledger's data folder")
	c.Flags().BoolVar(&keys, "keys", false, "copy private keys, too")
	return c
}

func restoreCmd() *cobra.Command {
	var cfg node.RestoreConfig
	var dir, token string
	var journal bool
	c := &cobra.Command{
		Use:   "restore BACKUP",
		Short: "Make a data folder of a backup, unless that could fork the log",
		Long: `Make a new data folder of a backup. A log that goes on from an old copy signs another
history than it has shown before: a fork, which ends it. So the witnesses of the
policy are asked first what they saw last. They must answer in such a number that
they reach the quorum and the silent ones do not, and nobody may hold a checkpoint
beyond what is restored.

What was logged after the backup comes with --tail, from what is left of the old
folder (its journal, its database), or from a server that still has the entries,
such as a read replica; its address needs a token of scope audit. Every entry is
decided and hashed again, and must lead to the root that was signed.

A ledger without witnesses needs --seen: the newest checkpoint that anybody holds.

--new-journal begins the journal anew where only the journal is lost or damaged: in
place, without a backup, and only if the witnesses know nothing newer than the
database. The journal of before cannot be used afterwards.

Exit codes: 0 restored; 1 failed; 2 wrong command line; 3 refused: the message says
why, and what to do.`,
		Example: `  fabtraild restore /mnt/backups/2026-11-22 --data ./restored --keys /mnt/vault/keys
  fabtraild restore /mnt/backups/2026-11-22 --data ./restored --keys ./ledger/keys --tail ./ledger
  fabtraild restore /mnt/backups/2026-11-22 --data ./restored --tail https://replica.example --token audit.token
  fabtraild restore --new-journal --data ./ledger`,
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case journal && len(args) > 0:
				return errors.New("--new-journal works on the data folder itself, and takes no backup")
			case !journal && len(args) != 1:
				return errors.New("name one backup")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			progress, end := meter(c)
			defer end()
			if token != "" {
				b, err := os.ReadFile(token)
				if err != nil {
					return err
				}
				cfg.Token = strings.TrimSpace(string(b))
			}
			var r node.Restored
			var err error
			if journal {
				if len(cfg.Tails) > 0 || cfg.Keys != "" || cfg.Policy != "" {
					return cli.Usagef("--new-journal goes with --data and --seen only")
				}
				r, err = node.NewJournal(c.Context(), node.Folder(dir), cfg.Seen, progress)
			} else {
				cfg.Backup, cfg.Folder, cfg.Progress = args[0], node.Folder(dir), progress
				r, err = node.Restore(c.Context(), cfg)
			}
			end()
			if err != nil {
				return refused(err)
			}
			return cli.Print(c, r, func(w io.Writer) { writeRestored(w, r, journal) })
		},
	}
	dataFlag(c, &dir, "the folder to make; with --new-journal: the ledger's")
	f := c.Flags()
	f.StringArrayVar(&cfg.Tails, "tail", nil, "where newer entries are: a data, ledger or journal folder, or the address of a ledger; repeatable, taken in order")
	f.StringVar(&token, "token", "", "file with a token of scope audit, for addresses")
	f.StringVar(&cfg.Keys, "keys", "", "folder with the ledger's private keys, when the backup has none")
	f.StringVar(&cfg.Policy, "policy", "", "the policy.txt in force now, when it is newer than the backup's: it says which witnesses to ask")
	f.StringArrayVar(&cfg.Seen, "seen", nil, "file of a checkpoint that somebody holds; repeatable")
	f.BoolVar(&journal, "new-journal", false, "begin a lost journal anew")
	return c
}

func writeRestored(w io.Writer, r node.Restored, journal bool) {
	if journal {
		fmt.Fprintf(w, "%s: a new journal begins at %d entries, epoch %d\n", r.Folder, r.Size, r.Epoch)
		if r.Aside != "" {
			fmt.Fprintf(w, "the files of the old one are in %s; they are of no use any more\n", r.Aside)
		}
	} else {
		fmt.Fprintf(w, "%s: %d entries, %d of them from the backup; root %s\n", r.Folder, r.Size, r.Backup, r.Root)
	}
	fmt.Fprintf(w, "newest checkpoint signed: size %d; published: size %d\n", r.Signed, r.Published)
	for _, s := range r.Silent {
		fmt.Fprintln(w, cli.Colour(w, "yellow", "did not count"), s)
	}
	if !r.Keys {
		fmt.Fprintf(w, "put the private keys into %s/keys (mode 0600)\n", r.Folder)
	}
	if r.Tree != 0 {
		fmt.Fprintf(w, "it was on a Trillian cluster, in tree %d: from here on it is a ledger of the embedded engine; 'fabtraild migrate' puts it into a new tree\n", r.Tree)
	}
	fmt.Fprintf(w, "make sure that the old ledger does not run any more, anywhere; next: fabtraild serve --data %s\n", r.Folder)
}
