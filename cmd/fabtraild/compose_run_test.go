package main

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"fabtrail.dev/fabtrail/client"
)

// runComposition plays a first start, a cosigned checkpoint, a clean end, and a
// second start on the same volumes. prefix begins the names of a profile's services
// and volumes; replicas are held to the same checkpoint.
func runComposition(t *testing.T, image, servers, profile, prefix string, replicas ...string) {
	ctx := patience(t)
	s := newStack(t, image, profile)
	s.servers = servers
	s.up(ctx)
	s.healthy(ctx, prefix+"ledger")
	first := s.cosigned(ctx, prefix, prefix+"ledger")
	var names []string
	for _, c := range first.Cosigs {
		names = append(names, c.Name)
	}
	for _, w := range []string{"witness-a.example", "witness-b.example"} {
		if !slices.Contains(names, w) {
			t.Errorf("cosigned by %v, not by %s", names, w)
		}
	}
	if !slices.Equal(first.Index, []string{"witness-index.example"}) {
		t.Errorf("index witnesses %v", first.Index)
	}
	s.follow(ctx, prefix, first, replicas)
	s.down(ctx)
	s.secrets()

	s.up(ctx)
	s.healthy(ctx, prefix+"ledger")
	second := s.cosigned(ctx, prefix, prefix+"ledger")
	if second.Size < first.Size || second.Size == first.Size && second.Root != first.Root {
		t.Errorf("size %d root %s after a restart, %d %s before", second.Size, second.Root, first.Size, first.Root)
	}
	s.follow(ctx, prefix, second, replicas)
	s.down(ctx)
}

// follow waits until each replica shows a checkpoint, as well cosigned.
func (s *stack) follow(ctx context.Context, prefix string, want *client.Seen, replicas []string) {
	s.t.Helper()
	for _, r := range replicas {
		s.healthy(ctx, r)
		for {
			seen := s.cosigned(ctx, prefix, r)
			if seen.Size == want.Size && seen.Root != want.Root {
				s.t.Fatalf("%s has another root at size %d", r, seen.Size)
			}
			if seen.Size >= want.Size {
				break
			}
			select {
			case <-ctx.Done():
				s.t.Fatalf("%s does not reach size %d", r, want.Size)
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
}

// secrets checks that no private key lies where another service can read it.
func (s *stack) secrets() {
	s.t.Helper()
	readers := map[string][]string{}
	for name, svc := range s.Services {
		if svc.Restart == "no" {
			continue
		}
		for _, m := range svc.mounts(s.t) {
			readers[m.volume] = append(readers[m.volume], name)
		}
	}
	keys := 0
	for v := range s.Volumes {
		root := filepath.Join(s.volumes, v)
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			b, err := os.ReadFile(path)
			if err != nil || !bytes.Contains(b, []byte("PRIVATE")) {
				return err
			}
			keys++
			if len(readers[v]) > 1 {
				s.t.Errorf("%v can all read the private key %s of volume %s", readers[v], strings.TrimPrefix(path, root), v)
			}
			return nil
		})
		if err != nil {
			s.t.Fatal(err)
		}
	}
	if keys < 6 { // log, operator, token, and three witnesses
		s.t.Errorf("%d private keys were found: this test does not see them", keys)
	}
}
