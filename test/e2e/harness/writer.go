package harness

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
)

// Writer sends remote write 1.0 requests like a Prometheus, or 2.0 if V2 is set.
type Writer struct {
	URL    string
	Header http.Header
	Client *http.Client
	V2     bool
}

// Write sends one request. The error is nil only when the server acknowledged
// all of it; code is the HTTP status, 0 when there was no answer.
func (w Writer) Write(series []prompb.TimeSeries) (code int, err error) {
	if w.V2 {
		return w.send(version2(series))
	}
	return w.send(&prompb.WriteRequest{Timeseries: series})
}

// version2 is the request in remote write 2.0.
func version2(series []prompb.TimeSeries) *writev2.Request {
	symbols := writev2.NewSymbolTable()
	var req writev2.Request
	for _, one := range series {
		var ts writev2.TimeSeries
		for _, l := range one.Labels {
			ts.LabelsRefs = append(ts.LabelsRefs, symbols.Symbolize(l.Name), symbols.Symbolize(l.Value))
		}
		for _, s := range one.Samples {
			ts.Samples = append(ts.Samples, writev2.Sample{Timestamp: s.Timestamp, Value: s.Value})
		}
		for _, h := range one.Histograms {
			if h.IsFloatHistogram() {
				ts.Histograms = append(ts.Histograms, writev2.FromFloatHistogram(0, h.Timestamp, h.ToFloatHistogram()))
			} else {
				ts.Histograms = append(ts.Histograms, writev2.FromIntHistogram(0, h.Timestamp, h.ToIntHistogram()))
			}
		}
		req.Timeseries = append(req.Timeseries, ts)
	}
	req.Symbols = symbols.Symbols()
	return &req
}

// WriteMetadata sends the metadata of a metric.
func (w Writer) WriteMetadata(m prompb.MetricMetadata) error {
	_, err := w.send(&prompb.WriteRequest{Metadata: []prompb.MetricMetadata{m}})
	return err
}

// send compresses and sends one request.
func (w Writer) send(body interface{ Marshal() ([]byte, error) }) (code int, err error) {
	raw, err := body.Marshal()
	if err != nil {
		return 0, fmt.Errorf("encode a remote write request: %w", err)
	}
	req, err := http.NewRequest(http.MethodPost, w.URL, bytes.NewReader(snappy.Encode(nil, raw)))
	if err != nil {
		return 0, fmt.Errorf("make a remote write request: %w", err)
	}
	for k, v := range w.Header {
		req.Header[k] = v
	}
	req.Header.Set("Content-Encoding", "snappy")
	kind, version := "application/x-protobuf", "0.1.0"
	if _, ok := body.(*writev2.Request); ok {
		kind, version = "application/x-protobuf;proto=io.prometheus.write.v2.Request", "2.0.0"
	}
	req.Header.Set("Content-Type", kind)
	req.Header.Set("X-Prometheus-Remote-Write-Version", version)
	client := w.Client
	if client == nil {
		client = &http.Client{Timeout: 20 * time.Second}
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, fmt.Errorf("remote write to %s: %w", w.URL, err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 1000))
	if resp.StatusCode/100 != 2 {
		return resp.StatusCode, fmt.Errorf("remote write to %s: %s: %s", w.URL, resp.Status, text)
	}
	return resp.StatusCode, nil
}

// TimeSeries makes one series for a request; kv are names and values of
// labels, sorted by name.
func TimeSeries(samples []prompb.Sample, kv ...string) prompb.TimeSeries {
	ts := prompb.TimeSeries{Samples: samples}
	for i := 0; i+1 < len(kv); i += 2 {
		ts.Labels = append(ts.Labels, prompb.Label{Name: kv[i], Value: kv[i+1]})
	}
	return ts
}
