package node

import (
	"context"

	"fabtrail.dev/fabtrail/ledger"
)

// Repaired says what Repair did, or would do.
type Repaired struct {
	Done    bool     `json:"done"`
	Fixes   []string `json:"fixes"`             // class, index, and how
	Left    []string `json:"left"`              // damage that stays, and why
	Refused string   `json:"refused,omitempty"` // why nothing can be changed safely
	Next    string   `json:"next,omitempty"`    // the command for what is left
	Kept    string   `json:"kept,omitempty"`    // the database of before
	After   Checked  `json:"after"`             // the check after the repair; without one, the check
}

// Repair checks a ledger that is not running, and, with write, makes right what
// provably can be.
func Repair(ctx context.Context, f Folder, write bool, progress func(what string, done, total uint64)) (Repaired, error) {
	cfg, err := f.fsck(progress)
	if err != nil {
		return Repaired{}, err
	}
	r, err := ledger.Repair(ctx, ledger.RepairConfig{FsckConfig: cfg, Folder: string(f), App: app{}, Write: write})
	if err != nil {
		return Repaired{}, f.inUse(err)
	}
	out := Repaired{Done: r.Done, Fixes: []string{}, Left: []string{}, Refused: r.Refused, Next: r.Next, Kept: r.Kept, After: checked(r.After)}
	for _, x := range r.Fixes {
		out.Fixes = append(out.Fixes, x.String())
	}
	for _, d := range r.Left {
		out.Left = append(out.Left, d.String())
	}
	return out, nil
}
