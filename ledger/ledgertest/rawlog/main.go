// Command rawlog serves a bare log: the ledger without custody above it, with the
// write API that Tessera's load generator speaks and tlog-tiles reads. It is for
// tests only: anybody may write, and its key is known to everybody.
//
//	POST /add          raw bytes in, the entry's index out, in decimal
//	POST /receipt      the same, and the whole receipt (a C2SP tlog-proof) comes out
//	GET  /checkpoint   GET /tile/...   as c2sp.org/tlog-tiles says
//
// Equal bytes are one entry. 429 (too much in flight) and 503 (the disk is full, or
// the log has stopped) come with Retry-After, in seconds.
package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"fabtrail.dev/fabtrail/ledger"
	"fabtrail.dev/fabtrail/ledger/entry"
	"fabtrail.dev/fabtrail/ledger/ledgertest"
)

const (
	origin  = "rawlog.test/log"
	maxBody = 1 << 20
)

// raw puts every entry into one of 256 lists of the index, and accepts it.
type raw struct{}

// Decide implements ledger.App.
func (raw) Decide(_ ledger.State, _ ledger.At, sub ledger.Submission) ledger.Outcome {
	var t entry.Hash
	t[0] = sub.ID[0]
	return ledger.Outcome{Class: entry.Public, Topics: []entry.Hash{sha256.Sum256(t[:])}}
}

func main() {
	dir := flag.String("data", "", "folder of the log; made when it does not exist")
	listen := flag.String("listen", "127.0.0.1:2026", "address to listen on")
	rotate := flag.Int64("rotate", 0, "bytes of the journal after which the database is flushed (0: the ledger's default)")
	flag.Parse()
	if *dir == "" || flag.NArg() != 0 {
		fmt.Fprintln(os.Stderr, "usage: rawlog --data DIR [--listen ADDR]")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, ledger.Config{Dir: *dir, RotateBytes: *rotate}, *listen)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "rawlog:", err)
		var refused *ledger.NoSign
		if errors.As(err, &refused) {
			os.Exit(3)
		}
		os.Exit(1)
	}
}

// run serves until ctx ends, and prints address and key when it listens.
func run(ctx context.Context, cfg ledger.Config, addr string) (err error) {
	cfg.Origin, cfg.Signer, cfg.App = origin, ledgertest.LogSigner(origin), raw{}
	l, err := ledger.Open(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	// Readers want a checkpoint from the start, and an empty log signs none.
	if r := l.Append(ctx, []ledger.Submission{ledgertest.Submission("rawlog")})[0]; r.Err != nil {
		return r.Err
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: handler(l), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 15 * time.Second,
		WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute}
	fmt.Printf("http://%s/ %s\n", ln.Addr(), cfg.Signer.VKey())
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	select {
	case err := <-served:
		return err
	case <-l.Failed():
		return errors.Join(l.Err(), srv.Close())
	case <-ctx.Done():
	}
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return srv.Shutdown(limit)
}

func handler(l *ledger.Ledger) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /add", func(w http.ResponseWriter, r *http.Request) {
		if res, ok := add(l, w, r); ok {
			fmt.Fprint(w, res.Index)
		}
	})
	mux.HandleFunc("POST /receipt", func(w http.ResponseWriter, r *http.Request) {
		if res, ok := add(l, w, r); ok {
			w.Write(res.Receipt)
		}
	})
	mux.HandleFunc("GET /checkpoint", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Write(l.Published().Checkpoint())
	})
	mux.HandleFunc("GET /tile/", func(w http.ResponseWriter, r *http.Request) { tile(l, w, r) })
	return mux
}

// add appends the body and answers errors.
func add(l *ledger.Ledger, w http.ResponseWriter, r *http.Request) (ledger.Result, bool) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
		return ledger.Result{}, false
	}
	res := l.Append(r.Context(), []ledger.Submission{ledgertest.Submission(string(body))})[0]
	if res.Err == nil {
		return res, true
	}
	status := http.StatusInternalServerError
	switch err := res.Err; {
	case errors.Is(err, ledger.ErrOverloaded):
		status = http.StatusTooManyRequests
	case errors.Is(err, ledger.ErrStorageFull), errors.Is(err, ledger.ErrFailed), errors.Is(err, ledger.ErrClosed):
		status = http.StatusServiceUnavailable
	}
	if status != http.StatusInternalServerError {
		w.Header().Set("Retry-After", strconv.Itoa(1))
	}
	http.Error(w, res.Err.Error(), status)
	return res, false
}

func tile(l *ledger.Ledger, w http.ResponseWriter, r *http.Request) {
	v := l.Published()
	p, err := entry.ParseTilePath(r.URL.EscapedPath())
	if err != nil || p.WidthAt(v.Size()) < p.Width {
		http.NotFound(w, r)
		return
	}
	var b []byte
	if p.Entries {
		b, err = v.Bundle(p.Index, uint16(p.Width))
	} else {
		b, err = v.Tile(p.Level, p.Index, uint16(p.Width))
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Write(b)
}
