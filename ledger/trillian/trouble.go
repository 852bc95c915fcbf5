package trillian

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// trouble is an error of one part of the cluster, in words that name the part.
type trouble struct {
	words string
	err   error
}

// Error implements error.
func (t *trouble) Error() string { return t.words }

// Unwrap keeps what codes the error has.
func (t *trouble) Unwrap() error { return t.err }

// ofServer names the log server in the error of a call to it.
func (c *Config) ofServer(err error) error {
	if err == nil {
		return nil
	}
	s := status.Convert(err)
	words := transport(s.Message())
	switch s.Code() {
	case codes.Unavailable:
		words = "the log server at " + c.Addr + " does not answer: " + words
		switch {
		case strings.Contains(words, "HTTP/1.1 header"):
			words += " (is this its --http_endpoint, and not its --rpc_endpoint?)"
		case !c.TLS && strings.Contains(words, "server preface"):
			words += " (it may want TLS: --trillian-tls)"
		}
	case codes.Unimplemented:
		words = "what answers at " + c.Addr + " is no log server: " + words + " (is it the log signer?)"
	case codes.DeadlineExceeded:
		words = "the log server at " + c.Addr + " has not answered in time"
	case codes.Unknown: // as its own errors are, those of its database
		words = "the log server at " + c.Addr + " answers: " + words
	default:
		words = fmt.Sprintf("the log server at %s answers: %s (%v)", c.Addr, words, s.Code())
	}
	return &trouble{timeless(words), err}
}

// transport is what lies under gRPC's own words about a connection.
func transport(msg string) string {
	_, quoted, ok := strings.Cut(msg, "connection error: desc = ")
	if !ok {
		return msg
	}
	inner, err := strconv.Unquote(quoted)
	if err != nil {
		return msg
	}
	if _, dial, ok := strings.Cut(inner, ": dial "); ok {
		return "dial " + dial
	}
	return strings.TrimPrefix(inner, "transport: ")
}

// ofPostgres names PostgreSQL in errors of connecting to it, and of waiting for it.
func ofPostgres(err error) error {
	named, c := (*trouble)(nil), (*pgconn.ConnectError)(nil)
	switch {
	case errors.As(err, &named):
		return err
	case errors.As(err, &c):
		return &trouble{timeless("PostgreSQL: " + strings.TrimPrefix(err.Error(), "PostgreSQL: ")), err}
	case errors.Is(err, context.DeadlineExceeded):
		return &trouble{"PostgreSQL has not answered in time", err}
	}
	return err
}

// timeless leaves the present time out of what is said about a certificate that has
// expired: the same trouble is to have the same words.
func timeless(words string) string {
	before, rest, ok := strings.Cut(words, "current time ")
	if !ok {
		return words
	}
	_, rest, ok = strings.Cut(rest, " is ")
	if !ok {
		return words
	}
	return before + "now is " + rest
}

// naming has every error of a call name the log server.
func (c *Config) naming(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, call grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	return c.ofServer(call(ctx, method, req, reply, cc, opts...))
}

// badCertificate reports that the other side shows a certificate that does not hold, or
// speaks no TLS: no waiting makes that right.
func badCertificate(err error) bool {
	shown, spoken := (*tls.CertificateVerificationError)(nil), tls.RecordHeaderError{}
	return errors.As(err, &shown) || errors.As(err, &spoken)
}

// remember keeps what went wrong last, for cause.
func (e *Engine) remember(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.last = err
}

// cause says what the cluster's trouble is when all that err says is that the caller
// would wait no longer.
func (e *Engine) cause(ctx context.Context, err error) error {
	if err == nil || !errors.Is(ctx.Err(), context.DeadlineExceeded) || final(err) {
		return err
	}
	e.mu.Lock()
	last := e.last
	e.mu.Unlock()
	if last == nil {
		return err
	}
	return fmt.Errorf("%w: %w", last, ctx.Err())
}
