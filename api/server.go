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
)

// timeouts are what the API itself holds requests to.
type timeouts struct {
	handle time.Duration // a handler; leaves time to answer before the write deadline
	upload time.Duration // the body of a manifest
	line   time.Duration // one line of a batch to arrive
	batch  time.Duration // a whole batch, however steadily it comes
	write  time.Duration // a piece of a streamed answer to be taken
}

var defaultTimeouts = timeouts{
	handle: 25 * time.Second, upload: 60 * time.Second, line: readTimeout, batch: 10 * time.Minute, write: writeTimeout,
}

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
		ConnContext:       remember,
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
