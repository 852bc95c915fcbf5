package api

import (
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics counts requests. Labels are routes and statuses, never parties, units
// or addresses: the page is open to everyone.
type metrics struct {
	requests   *prometheus.CounterVec
	seconds    *prometheus.HistogramVec
	inFlight   *prometheus.GaugeVec
	statements *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fabtrail_http_requests_total", Help: "HTTP requests answered.",
		}, []string{"route", "method", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "fabtrail_http_request_seconds", Help: "Time from the request's headers to the end of its answer.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"route"}),
		inFlight: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "fabtrail_http_in_flight", Help: "HTTP requests being served.",
		}, []string{"class"}),
		statements: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fabtrail_http_statements_total", Help: "Statements answered, by the problem type or the status of success.",
		}, []string{"outcome"}),
	}
	for _, c := range []prometheus.Collector{m.requests, m.seconds, m.inFlight, m.statements} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// done counts an answer. route is a path of the table; anything else is a
// stranger's and counts as "other".
func (m *metrics) done(path, method string, code int, took time.Duration) {
	if !slices.ContainsFunc(routes, func(r route) bool { return r.path == path }) {
		path = "other"
	}
	m.requests.WithLabelValues(path, methodLabel(method), strconv.Itoa(code)).Inc()
	m.seconds.WithLabelValues(path).Observe(took.Seconds())
}

// methodLabel keeps strangers from inventing label values.
func methodLabel(m string) string {
	switch m {
	case "GET", "HEAD", "POST", "PUT", "OPTIONS", "DELETE", "PATCH":
		return m
	}
	return "other"
}
