package node

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/witness"
)

// WitnessConfig says how a witness runs.
type WitnessConfig struct {
	Dir  string // keys/witness.skey, trust/witness.vkey, state/, mark/
	Name string
	Logs []witness.Log
	Log  *slog.Logger
	// Check makes it an index-verifying cosigner; see Follower.
	Check func(ctx context.Context, cp checkpoint.Checkpoint, note checkpoint.Note) error
	// Accept opens a store whose high-water mark is missing or disagrees.
	Accept bool
}

// Witness is one running witness.
type Witness struct {
	store   *witness.FileStore
	signer  *checkpoint.Signer
	handler http.Handler
	log     *slog.Logger
}

// OpenWitness opens or makes a witness's key and store.
func OpenWitness(c WitnessConfig) (*Witness, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	signer, made, err := witnessSigner(c.Dir, c.Name)
	if err != nil {
		return nil, err
	}
	store, err := witness.OpenFileStore(witness.FileOptions{
		Dir: filepath.Join(c.Dir, "state"), MarkDir: filepath.Join(c.Dir, "mark"), Create: made, Accept: c.Accept,
	})
	if err != nil {
		return nil, err
	}
	metrics := witness.NewMetrics()
	srv, err := witness.New(witness.Config{
		Logs: c.Logs, Signer: signer, Store: store, Check: c.Check, Metrics: metrics, Logger: c.Log,
	})
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(metrics, collectors.NewGoCollector())
	mux := http.NewServeMux()
	mux.Handle("/", srv)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	return &Witness{store: store, signer: signer, handler: mux, log: c.Log}, nil
}

// VKey is the witness's public key.
func (w *Witness) VKey() checkpoint.VKey { return w.signer.VKey() }

// Serve answers HTTP at addr until ctx ends.
func (w *Witness) Serve(ctx context.Context, addr string, files *TLS, ready func(addr string)) error {
	srv := &http.Server{
		Handler:           w.handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      60 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    8 << 10,
		ErrorLog:          slog.NewLogLogger(w.log.Handler(), slog.LevelWarn),
	}
	return Listen(ctx, srv, addr, files, nil, ready)
}

// Close closes the witness's store.
func (w *Witness) Close() error { return w.store.Close() }

// witnessSigner reads the witness's key, or makes it on the first start. made
// tells the two apart: a witness with a key but without a store has lost its
// memory, and must not begin anew.
func witnessSigner(dir, name string) (s *checkpoint.Signer, made bool, err error) {
	path := filepath.Join(dir, "keys", "witness.skey")
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		made = true
		if b, err = makeWitnessKey(path, name); err != nil {
			return nil, false, err
		}
	}
	if err != nil {
		return nil, false, err
	}
	if s, err = checkpoint.ParseSKey(strings.TrimSpace(string(b))); err != nil {
		return nil, false, fmt.Errorf("%s: %w", path, err)
	}
	if s.VKey().Name != name {
		return nil, false, fmt.Errorf("the key in %s is that of %s, not of %s", path, s.VKey().Name, name)
	}
	trust := filepath.Join(dir, "trust")
	if err := os.MkdirAll(trust, 0o755); err != nil {
		return nil, false, err
	}
	return s, made, writeFile(filepath.Join(trust, "witness.vkey"), []byte(s.VKey().String()+"\n"), 0o644)
}

func makeWitnessKey(path, name string) ([]byte, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	text, err := checkpoint.MarshalSKey(name, checkpoint.TypeCosigner, key)
	if err != nil {
		return nil, err
	}
	return []byte(text), writeFile(path, []byte(text+"\n"), 0o600)
}
