package node

import (
	"context"
	"fmt"

	"fabtrail.dev/fabtrail/ledger"
)

// Repaired says what Repair did, or would do.
type Repaired struct {
	Done    bool            `json:"done"`
	Fixes   []ledger.Fix    `json:"fixes"`
	Left    []ledger.Damage `json:"left"`              // damage that stays
	Refused string          `json:"refused,omitempty"` // why nothing can be changed safely
	Next    string          `json:"next,omitempty"`    // the command for what is left
	Kept    string          `json:"kept,omitempty"`    // the database of before
	After   Checked         `json:"after"`             // the check after the repair; without one, the check
}

// Repair checks a ledger that is not running, and, with write, makes right what
// provably can be.
func Repair(ctx context.Context, f Folder, write bool, progress func(what string, done, total uint64)) (Repaired, error) {
	if f.isBackup() {
		return Repaired{}, fmt.Errorf("%s is a backup, which is kept as it was written: restore it into a new folder, and repair that", f)
	}
	cfg, err := f.fsck(progress)
	if err != nil {
		return Repaired{}, err
	}
	r, err := ledger.Repair(ctx, ledger.RepairConfig{FsckConfig: cfg, Folder: string(f), App: app{}, Write: write})
	if err != nil {
		return Repaired{}, f.inUse(err)
	}
	return Repaired{Done: r.Done, Fixes: append([]ledger.Fix{}, r.Fixes...), Left: append([]ledger.Damage{}, r.Left...),
		Refused: r.Refused, Next: r.Next, Kept: r.Kept, After: checked(r.After)}, nil
}
