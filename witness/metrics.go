package witness

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"fabtrail.dev/fabtrail/ledger/checkpoint"
)

// Metrics counts what a Server answers. It is a prometheus.Collector that the
// caller registers; a nil *Metrics counts nothing.
type Metrics struct {
	answers *prometheus.CounterVec
	size    *prometheus.GaugeVec
	time    *prometheus.GaugeVec
	frozen  *prometheus.GaugeVec
}

// NewMetrics returns the metrics of one witness.
func NewMetrics() *Metrics {
	return &Metrics{
		answers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fabtrail_witness_answers_total",
			Help: "Answers to add-checkpoint by log (empty while unknown), HTTP status and reason.",
		}, []string{"origin", "status", "reason"}),
		size: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "fabtrail_witness_cosigned_size",
			Help: "Size of the latest checkpoint cosigned, by log.",
		}, []string{"origin"}),
		time: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "fabtrail_witness_cosigned_timestamp_seconds",
			Help: "Time of the latest cosignature, by log.",
		}, []string{"origin"}),
		frozen: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "fabtrail_witness_frozen",
			Help: "1 if nothing is cosigned for the log because the store was found to be an old copy.",
		}, []string{"origin"}),
	}
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	m.answers.Describe(ch)
	m.size.Describe(ch)
	m.time.Describe(ch)
	m.frozen.Describe(ch)
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	m.answers.Collect(ch)
	m.size.Collect(ch)
	m.time.Collect(ch)
	m.frozen.Collect(ch)
}

func (m *Metrics) answered(origin string, status int, reason string) {
	if m != nil {
		m.answers.WithLabelValues(origin, strconv.Itoa(status), reason).Inc()
	}
}

func (m *Metrics) cosigned(origin string, size, unixTime uint64) {
	if m != nil {
		m.size.WithLabelValues(origin).Set(float64(size))
		m.time.WithLabelValues(origin).Set(float64(unixTime))
	}
}

// knows shows a log's record as it is in the store.
func (m *Metrics) knows(signer checkpoint.VKey, rec Record) {
	if m == nil {
		return
	}
	n, err := checkpoint.ParseNote(rec.Note)
	if err == nil {
		if t, err := signer.VerifyCosignature(n); err == nil {
			m.cosigned(rec.Origin, rec.Size, t)
		}
	}
	frozen := 0.0
	if len(rec.Stale) != 0 {
		frozen = 1
	}
	m.frozen.WithLabelValues(rec.Origin).Set(frozen)
}

// CollectorMetrics counts what a Collector sees of each witness. It is a
// prometheus.Collector that the caller registers; nil counts nothing.
type CollectorMetrics struct {
	answers *prometheus.CounterVec
	seconds *prometheus.HistogramVec
	size    *prometheus.GaugeVec
	rounds  *prometheus.CounterVec
}

// NewCollectorMetrics returns the metrics of one collector.
func NewCollectorMetrics() *CollectorMetrics {
	return &CollectorMetrics{
		answers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fabtrail_cosign_answers_total",
			Help: "Answers of witnesses by witness and outcome.",
		}, []string{"witness", "outcome"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "fabtrail_cosign_seconds",
			Help:    "Time from asking a witness to its verified cosignature.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 14),
		}, []string{"witness"}),
		size: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "fabtrail_cosign_size",
			Help: "Size last cosigned, by witness.",
		}, []string{"witness"}),
		rounds: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fabtrail_cosign_rounds_total",
			Help: "Rounds of asking by outcome: quorum or no-quorum.",
		}, []string{"outcome"}),
	}
}

// Describe implements prometheus.Collector.
func (m *CollectorMetrics) Describe(ch chan<- *prometheus.Desc) {
	m.answers.Describe(ch)
	m.seconds.Describe(ch)
	m.size.Describe(ch)
	m.rounds.Describe(ch)
}

// Collect implements prometheus.Collector.
func (m *CollectorMetrics) Collect(ch chan<- prometheus.Metric) {
	m.answers.Collect(ch)
	m.seconds.Collect(ch)
	m.size.Collect(ch)
	m.rounds.Collect(ch)
}

func (m *CollectorMetrics) answer(witness, outcome string) {
	if m != nil {
		m.answers.WithLabelValues(witness, outcome).Inc()
	}
}

func (m *CollectorMetrics) success(witness string, size uint64, seconds float64) {
	if m != nil {
		m.answers.WithLabelValues(witness, "cosigned").Inc()
		m.seconds.WithLabelValues(witness).Observe(seconds)
		m.size.WithLabelValues(witness).Set(float64(size))
	}
}

func (m *CollectorMetrics) round(ok bool) {
	if m != nil {
		outcome := "no-quorum"
		if ok {
			outcome = "quorum"
		}
		m.rounds.WithLabelValues(outcome).Inc()
	}
}
