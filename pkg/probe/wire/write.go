package wire

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strconv"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"

	"github.com/hindsight-io/hindsight/pkg/httpclient"
	"github.com/hindsight-io/hindsight/pkg/probe"
)

// The protocols, by their versions.
const (
	V1 = "1.0"
	V2 = "2.0"
)

// maxErrorText bounds the text of an answer that an error repeats.
const maxErrorText = 500

// Writer sends samples to a URL. It is safe for concurrent use.
type Writer struct {
	URL    string
	Client *http.Client
	Header http.Header
}

// Write sends samples in one request over a protocol. The error is nil only when the
// server has acknowledged all of them; otherwise it may have stored any of them.
func (w *Writer) Write(ctx context.Context, set *probe.Set, samples []probe.Sample, protocol string) error {
	var body []byte
	var err error
	floats, histograms := 0, 0
	for _, s := range samples {
		if set.Series(s.Series).Kind == probe.Histogram {
			histograms++
		} else {
			floats++
		}
	}
	if protocol == V2 {
		body, err = encodeV2(set, samples)
	} else {
		body, err = encodeV1(set, samples)
	}
	if err != nil {
		return fmt.Errorf("encode remote write %s: %w", protocol, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.URL, bytes.NewReader(snappy.Encode(nil, body)))
	if err != nil {
		return fmt.Errorf("make a request of remote write: %w", err)
	}
	maps.Copy(req.Header, w.Header)
	req.Header.Set("Content-Encoding", "snappy")
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("X-Prometheus-Remote-Write-Version", "0.1.0")
	if protocol == V2 {
		req.Header.Set("Content-Type", "application/x-protobuf;proto=io.prometheus.write.v2.Request")
		req.Header.Set("X-Prometheus-Remote-Write-Version", "2.0.0")
	}
	resp, err := w.Client.Do(req)
	if err != nil {
		// The text of url.Error has the parameters of the URL.
		if u := (*url.Error)(nil); errors.As(err, &u) {
			err = u.Err
		}
		return fmt.Errorf("remote write %s to %s: %w", protocol, httpclient.Shown(req.URL), err)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxErrorText))
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return fmt.Errorf("remote write %s to %s: %w", protocol, httpclient.Shown(req.URL), err)
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("remote write %s to %s: %s: %s", protocol, httpclient.Shown(req.URL), resp.Status, text)
	}
	if protocol == V2 {
		return errors.Join(stated(resp.Header, "Samples", floats), stated(resp.Header, "Histograms", histograms))
	}
	return nil
}

// stated checks the number that an answer of remote write 2.0 states. A successful answer
// that states less has stored a part only; one without the header comes from a server
// that does not know 2.0, and has read nothing.
func stated(h http.Header, what string, sent int) error {
	name := "X-Prometheus-Remote-Write-" + what + "-Written"
	if got := h.Get(name); got != strconv.Itoa(sent) {
		return fmt.Errorf("remote write 2.0: the answer is a success, and its header %s is %q after %d were sent", name, got, sent)
	}
	return nil
}

// encodeV1 encodes a request of remote write 1.0.
func encodeV1(set *probe.Set, samples []probe.Sample) ([]byte, error) {
	var req prompb.WriteRequest
	for _, s := range samples {
		one, at := set.Series(s.Series), set.Time(s.Step)
		ts := prompb.TimeSeries{Labels: prompb.FromLabels(labels.FromMap(one.Labels), nil)}
		if one.Kind == probe.Histogram {
			ts.Histograms = []prompb.Histogram{prompb.FromIntHistogram(at, one.Histogram(s.Step))}
		} else {
			ts.Samples = []prompb.Sample{{Timestamp: at, Value: one.Float(s.Step)}}
		}
		if one.Kind == probe.Counter {
			id, value := one.Exemplar(s.Step)
			ts.Exemplars = []prompb.Exemplar{{Labels: []prompb.Label{{Name: traceLabel, Value: id}}, Value: value, Timestamp: at}}
		}
		req.Timeseries = append(req.Timeseries, ts)
	}
	return req.Marshal()
}

// encodeV2 encodes a request of remote write 2.0.
func encodeV2(set *probe.Set, samples []probe.Sample) ([]byte, error) {
	symbols := writev2.NewSymbolTable()
	var req writev2.Request
	for _, s := range samples {
		one, at := set.Series(s.Series), set.Time(s.Step)
		ts := writev2.TimeSeries{LabelsRefs: symbols.SymbolizeLabels(labels.FromMap(one.Labels), nil)}
		ts.Metadata.Type = writev2.Metadata_METRIC_TYPE_GAUGE
		switch one.Kind {
		case probe.Histogram:
			ts.Metadata.Type = writev2.Metadata_METRIC_TYPE_HISTOGRAM
			ts.Histograms = []writev2.Histogram{writev2.FromIntHistogram(0, at, one.Histogram(s.Step))}
		case probe.Counter:
			ts.Metadata.Type = writev2.Metadata_METRIC_TYPE_COUNTER
			id, value := one.Exemplar(s.Step)
			ts.Exemplars = []writev2.Exemplar{{
				LabelsRefs: []uint32{symbols.Symbolize(traceLabel), symbols.Symbolize(id)}, Value: value, Timestamp: at,
			}}
		}
		if one.Kind != probe.Histogram {
			ts.Samples = []writev2.Sample{{Timestamp: at, Value: one.Float(s.Step)}}
		}
		req.Timeseries = append(req.Timeseries, ts)
	}
	req.Symbols = symbols.Symbols()
	return req.Marshal()
}

// traceLabel is the label of an exemplar that names the trace.
const traceLabel = "trace_id"
