package api

import (
	"log/slog"
	"net/http"
	"time"
)

// Time-outs and bounds of the server. A batch, an upload and a stream of entries
// extend their own deadlines as they go on.
const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 15 * time.Second
	writeTimeout      = 30 * time.Second
	idleTimeout       = 60 * time.Second
	maxHeaderBytes    = 16 << 10

	// handleTimeout leaves time to answer before the write deadline.
	handleTimeout = 25 * time.Second
	uploadTimeout = 60 * time.Second
	batchTimeout  = 10 * time.Minute // of a whole batch, however steadily it comes
)

// NewServer returns a server for h that holds no connection for long: headers
// must come within 5 s, a body within 15 s, an answer is sent within 30 s, an
// idle connection is closed after 60 s, and headers have at most 16 KiB. log
// receives what net/http has to say; nil: slog.Default().
func NewServer(h http.Handler, log *slog.Logger) *http.Server {
	if log == nil {
		log = slog.Default()
	}
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		// OPTIONS * is answered like everything else.
		DisableGeneralOptionsHandler: true,
	}
}
