package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"fabtrail.dev/fabtrail/client"
	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/witness"
)

// Follower replays a ledger's entries as they are signed, and says of each
// checkpoint whether its index commitment is true: what an index-verifying
// cosigner asks before it signs.
type Follower struct {
	source, token string

	mu     sync.Mutex
	replay *client.Replayer
}

// NewFollower follows the ledger at source. tokenFile holds a token of scope
// audit; charterFile, if given, pins the ledger.
func NewFollower(source, tokenFile, charterFile string) (*Follower, error) {
	if _, err := client.NewRemote(source, client.Options{}); err != nil {
		return nil, err
	}
	var cfg client.ReplayConfig
	if charterFile != "" {
		b, err := os.ReadFile(charterFile)
		if err != nil {
			return nil, err
		}
		st, err := custody.Parse(b)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", charterFile, err)
		}
		cfg.Charter = st.ID
	}
	return &Follower{source: source, token: tokenFile, replay: client.NewReplayer(cfg)}, nil
}

// Check implements the Check of a witness. A ledger that cannot be read now is
// asked again later; one whose commitment is false is refused for good.
func (f *Follower) Check(ctx context.Context, cp checkpoint.Checkpoint, _ checkpoint.Note) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if cp.Size < f.replay.Size() {
		return fmt.Errorf("%w: entries up to %d are replayed already, a checkpoint of %d cannot be checked again", witness.ErrUnavailable, f.replay.Size(), cp.Size)
	}
	if cp.Size > f.replay.Size() {
		remote, err := f.remote()
		if err != nil {
			return fmt.Errorf("%w: %w", witness.ErrUnavailable, err)
		}
		if err := f.replay.Follow(ctx, remote.Log(true), cp.Size); err != nil {
			var d *client.Divergence
			if errors.As(err, &d) {
				return err
			}
			return fmt.Errorf("%w: %w", witness.ErrUnavailable, err)
		}
	}
	return f.replay.Check(cp)
}

func (f *Follower) remote() (*client.Remote, error) {
	var opt client.Options
	if f.token != "" {
		b, err := os.ReadFile(f.token)
		if err != nil {
			return nil, err
		}
		opt.Token = strings.TrimSpace(string(b))
	}
	opt.Attempts = 2 // the log asks again soon
	return client.NewRemote(f.source, opt)
}
