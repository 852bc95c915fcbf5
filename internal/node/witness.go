package node

import (
	"cmp"
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

	"fabtrail.dev/fabtrail/client"
	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/witness"
)

// WitnessConfig says how a witness runs.
type WitnessConfig struct {
	Dir  string // keys/witness.skey, trust/witness.vkey, state/, and mark/ unless MarkDir is set
	Name string
	Logs []witness.Log
	Log  *slog.Logger
	// MarkDir holds the high-water mark. On another disk, or at least outside the
	// backups of Dir, it gives away an old copy of Dir.
	MarkDir string
	// Check makes it an index-verifying cosigner; see Follower.
	Check func(ctx context.Context, cp checkpoint.Checkpoint, note checkpoint.Note) error
	// Accept opens a store whose high-water mark is missing or disagrees.
	Accept bool
	// Adopt lists the origins of logs that are frozen because the store is an old
	// copy, and whose newest checkpoint known is to be gone on from.
	Adopt []string
	// Observe lists the addresses of logs whose published checkpoints are looked
	// at before anything is cosigned: a cosignature of this witness that its store
	// does not know proves that the store is an old copy.
	Observe []string
}

// Witness is one running witness.
type Witness struct {
	store   *witness.FileStore
	server  *witness.Server
	observe []string
	signer  *checkpoint.Signer
	handler http.Handler
	log     *slog.Logger
}

// OpenWitness opens or makes a witness's key and store.
func OpenWitness(c WitnessConfig) (*Witness, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	signer, err := readWitnessKey(c.Dir, c.Name)
	first := errors.Is(err, fs.ErrNotExist)
	if err != nil && !first {
		return nil, err
	}
	store, err := witness.OpenFileStore(witness.FileOptions{
		Dir: filepath.Join(c.Dir, "state"), MarkDir: cmp.Or(c.MarkDir, filepath.Join(c.Dir, "mark")), Create: first, Accept: c.Accept,
	})
	if err != nil {
		return nil, err
	}
	if first { // after the store: a key without a store is a witness that has lost its memory
		signer, err = makeWitnessKey(c.Dir, c.Name)
	}
	if err == nil {
		err = writeWitnessVKey(c.Dir, signer.VKey())
	}
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	metrics := witness.NewMetrics()
	srv, err := witness.New(witness.Config{
		Logs: c.Logs, Signer: signer, Store: store, Check: c.Check, Metrics: metrics, Logger: c.Log,
	})
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	for _, origin := range c.Adopt {
		if err := srv.Adopt(origin); err != nil {
			return nil, errors.Join(err, store.Close())
		}
		c.Log.Warn("the newest checkpoint known was adopted", "origin", origin)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(metrics, collectors.NewGoCollector())
	mux := http.NewServeMux()
	mux.Handle("/", srv)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	return &Witness{store: store, server: srv, observe: c.Observe, signer: signer, handler: mux, log: c.Log}, nil
}

// VKey is the witness's public key.
func (w *Witness) VKey() checkpoint.VKey { return w.signer.VKey() }

// observeLimit bounds the look at one log's checkpoint.
const observeLimit = 5 * time.Second

// Look holds what the logs publish against the store. A log that does not answer
// is passed over: many start after their witnesses. An old copy of the store is
// reported, and the log concerned stays frozen; the others go on.
func (w *Witness) Look(ctx context.Context) {
	for _, url := range w.observe {
		ctx, cancel := context.WithTimeout(ctx, observeLimit)
		err := w.lookAt(ctx, url)
		cancel()
		switch {
		case errors.Is(err, witness.ErrStale):
			w.log.Error("this store is an old copy of itself: nothing is cosigned for that log until it is adopted", "log", url, "error", err)
		case err != nil:
			w.log.Warn("the log could not be looked at", "log", url, "error", err)
		}
	}
}

func (w *Witness) lookAt(ctx context.Context, url string) error {
	r, err := client.NewRemote(url, client.Options{Attempts: 1})
	if err != nil {
		return err
	}
	note, err := r.Checkpoint(ctx)
	if err != nil {
		return err
	}
	return w.server.Observe(note)
}

// Serve looks at what the logs publish, and then answers HTTP at addr until ctx
// ends, or the store fails: what it holds then is known only once it is opened again.
func (w *Witness) Serve(ctx context.Context, addr string, files *TLS, ready func(addr string)) error {
	w.Look(ctx)
	srv := &http.Server{
		Handler:           w.handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      60 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    8 << 10,
		ErrorLog:          slog.NewLogLogger(w.log.Handler(), slog.LevelWarn),
	}
	return Listen(ctx, srv, addr, files, 0, w.store.Failed(), ready)
}

// Close closes the witness's store.
func (w *Witness) Close() error { return w.store.Close() }

func witnessKeyFile(dir string) string { return filepath.Join(dir, "keys", "witness.skey") }

// readWitnessKey reads the witness's key; the error wraps fs.ErrNotExist when there
// is none yet.
func readWitnessKey(dir, name string) (*checkpoint.Signer, error) {
	path := witnessKeyFile(dir)
	b, err := readSecret(path)
	if err != nil {
		return nil, err
	}
	s, err := checkpoint.ParseSKey(strings.TrimSpace(string(b)))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if s.VKey().Name != name {
		return nil, fmt.Errorf("the key in %s is that of %s, not of %s", path, s.VKey().Name, name)
	}
	return s, nil
}

// makeWitnessKey makes the key of a new witness.
func makeWitnessKey(dir, name string) (*checkpoint.Signer, error) {
	path := witnessKeyFile(dir)
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
	if err := writeFile(path, []byte(text+"\n"), 0o600); err != nil {
		return nil, err
	}
	return readWitnessKey(dir, name)
}

func writeWitnessVKey(dir string, v checkpoint.VKey) error {
	trust := filepath.Join(dir, "trust")
	if err := os.MkdirAll(trust, 0o755); err != nil {
		return err
	}
	return writeFile(filepath.Join(trust, "witness.vkey"), []byte(v.String()+"\n"), 0o644)
}
