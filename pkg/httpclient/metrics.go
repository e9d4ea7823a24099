package httpclient

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Measured counts and times the requests of rt under the metric names of Thanos, with
// the label client. reg may be nil; it must not have another client of that name.
func Measured(rt http.RoundTripper, reg prometheus.Registerer, client string) http.RoundTripper {
	if reg == nil {
		return rt
	}
	f := promauto.With(prometheus.WrapRegistererWith(prometheus.Labels{"client": client}, reg))
	inFlight := f.NewGauge(prometheus.GaugeOpts{
		Name: "http_client_in_flight_requests", Help: "HTTP requests in flight.",
	})
	requests := f.NewCounterVec(prometheus.CounterOpts{
		Name: "http_client_requests_total", Help: "HTTP requests, by status code and method.",
	}, []string{"code", "method"})
	seconds := f.NewHistogramVec(prometheus.HistogramOpts{
		Name: "http_client_request_duration_seconds", Help: "Time until the header of the answer.",
		Buckets: prometheus.ExponentialBuckets(0.001, 4, 9),
	}, []string{"code", "method"})
	for _, method := range []string{"get", "post"} {
		requests.WithLabelValues("200", method)
	}
	return measured{RoundTripper: promhttp.InstrumentRoundTripperInFlight(inFlight,
		promhttp.InstrumentRoundTripperCounter(requests,
			promhttp.InstrumentRoundTripperDuration(seconds, rt))), inner: rt}
}

// measured keeps the method that http.Client calls on a transport.
type measured struct {
	http.RoundTripper
	inner http.RoundTripper
}

// CloseIdleConnections frees the connections that no request uses.
func (m measured) CloseIdleConnections() {
	if c, ok := m.inner.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}
