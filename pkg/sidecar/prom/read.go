package prom

import (
	"bytes"
	"context"
	"fmt"
	"mime"
	"net/http"
	"strings"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// ReadQuery asks for the chunks of series. Times are inclusive milliseconds.
type ReadQuery struct {
	MinTime, MaxTime int64
	Matchers         []*labels.Matcher
	// Strip are labels that the server adds to every series: its external
	// labels. A label with the same name and value is removed from the result.
	Strip labels.Labels
}

// Chunk is one chunk of a series; MinTime and MaxTime are the times of its first
// and last sample.
type Chunk struct {
	MinTime, MaxTime int64
	Encoding         chunkenc.Encoding
	Bytes            []byte
}

// Series is a stream of series that the reader pulls. It may return one label set
// several times in a row, each time with the next of its chunks. Label sets and the
// bytes of chunks stay valid, the slice of chunks until the next Next.
type Series interface {
	Next() bool
	Labels() labels.Labels
	Chunks() []Chunk
	Err() error
	// Close frees the connection. It is called once.
	Close() error
}

// Read reads chunks over remote read. It returns whole chunks, so samples may lie
// outside the requested range. The series are in the order of the stored label
// sets, that is without external labels.
//
// Of a server that answers with samples only, Read encodes the samples into chunks
// and holds the whole answer in memory.
func (c *Client) Read(ctx context.Context, q ReadQuery) (Series, error) {
	const op = "remote read"
	body, err := encodeReadRequest(q)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url("/api/v1/read", nil), bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	req.Header.Set("Content-Encoding", "snappy")
	req.Header.Set("Content-Type", "application/x-stream-protobuf")
	req.Header.Set("Accept-Encoding", "snappy")
	req.Header.Set("X-Prometheus-Remote-Read-Version", "0.1.0")
	resp, err := c.send(op, req)
	if err != nil {
		return nil, err
	}

	contentType := resp.Header.Get("Content-Type")
	media, params, _ := mime.ParseMediaType(contentType)
	switch {
	case media == "application/x-streamed-protobuf" && params["proto"] == "prometheus.ChunkedReadResponse":
		return newStream(resp.Body, q.Strip), nil
	case strings.HasPrefix(contentType, "application/x-protobuf"):
		defer resp.Body.Close()
		return readSamples(resp.Body, q)
	}
	resp.Body.Close()
	return nil, fmt.Errorf("%s: Prometheus answered with the unknown content type %q", op, contentType)
}

// encodeReadRequest encodes a request that accepts streamed chunks and samples.
func encodeReadRequest(q ReadQuery) ([]byte, error) {
	ms := make([]*prompb.LabelMatcher, 0, len(q.Matchers))
	for _, m := range q.Matchers {
		t, ok := map[labels.MatchType]prompb.LabelMatcher_Type{
			labels.MatchEqual:     prompb.LabelMatcher_EQ,
			labels.MatchNotEqual:  prompb.LabelMatcher_NEQ,
			labels.MatchRegexp:    prompb.LabelMatcher_RE,
			labels.MatchNotRegexp: prompb.LabelMatcher_NRE,
		}[m.Type]
		if !ok {
			return nil, fmt.Errorf("matcher %s has an unknown type", m)
		}
		ms = append(ms, &prompb.LabelMatcher{Type: t, Name: m.Name, Value: m.Value})
	}
	req := prompb.ReadRequest{
		Queries: []*prompb.Query{{
			StartTimestampMs: q.MinTime,
			EndTimestampMs:   q.MaxTime,
			Matchers:         ms,
		}},
		AcceptedResponseTypes: []prompb.ReadRequest_ResponseType{
			prompb.ReadRequest_STREAMED_XOR_CHUNKS,
			prompb.ReadRequest_SAMPLES,
		},
	}
	b, err := req.Marshal()
	if err != nil {
		return nil, fmt.Errorf("encode the request: %w", err)
	}
	return snappy.Encode(nil, b), nil
}
