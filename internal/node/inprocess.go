package node

import (
	"bytes"
	"io"
	"net/http"
)

// answerBuffer is the http.ResponseWriter of an answer that stays in the process.
type answerBuffer struct {
	header http.Header
	status int
	wrote  bool
	body   bytes.Buffer
}

// Header implements http.ResponseWriter.
func (w *answerBuffer) Header() http.Header { return w.header }

// WriteHeader implements http.ResponseWriter.
func (w *answerBuffer) WriteHeader(status int) {
	if !w.wrote {
		w.status, w.wrote = status, true
	}
}

// Write implements http.ResponseWriter.
func (w *answerBuffer) Write(b []byte) (int, error) {
	w.wrote = true
	return w.body.Write(b)
}

// Flush implements http.Flusher.
func (w *answerBuffer) Flush() {}

func (w *answerBuffer) response(r *http.Request) *http.Response {
	return &http.Response{
		Status: http.StatusText(w.status), StatusCode: w.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: w.header, Body: io.NopCloser(&w.body), ContentLength: int64(w.body.Len()), Request: r,
	}
}
