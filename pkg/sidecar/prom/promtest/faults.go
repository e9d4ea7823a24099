package promtest

import (
	"bytes"
	"io"
	"net/http"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"
)

// OnlySamples makes remote read answer with samples, as a server that does not
// know the streamed answer.
func OnlySamples(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Prometheus-Remote-Read-Version") != "" {
			body, err := withoutStreaming(r.Body)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			r.Body = io.NopCloser(bytes.NewReader(body))
			r.ContentLength = int64(len(body))
		}
		next.ServeHTTP(w, r)
	})
}

func withoutStreaming(r io.Reader) ([]byte, error) {
	compressed, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	raw, err := snappy.Decode(nil, compressed)
	if err != nil {
		return nil, err
	}
	var req prompb.ReadRequest
	if err := req.Unmarshal(raw); err != nil {
		return nil, err
	}
	req.AcceptedResponseTypes = []prompb.ReadRequest_ResponseType{prompb.ReadRequest_SAMPLES}
	if raw, err = req.Marshal(); err != nil {
		return nil, err
	}
	return snappy.Encode(nil, raw), nil
}
