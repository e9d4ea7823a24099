package promapi

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/storage/remote"
)

// Bounds of the body of a remote read request, compressed and not.
const (
	maxReadBody    = 1 << 20
	maxReadDecoded = 4 << 20
)

// remoteRead checks the request and waits for a place before the handler of
// Prometheus sees it: that one takes every request, and calls waiting too long
// an internal error.
func (a *API) remoteRead(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxReadBody))
	if err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			http.Error(w, fmt.Sprintf("remote read request is larger than %d bytes", tooLarge.Limit), http.StatusRequestEntityTooLarge)
			return
		}
		http.Error(w, fmt.Sprintf("read the request: %s", err), http.StatusBadRequest)
		return
	}
	if n, err := snappy.DecodedLen(body); err == nil && n > maxReadDecoded {
		http.Error(w, fmt.Sprintf("remote read request has %d bytes, more than %d", n, maxReadDecoded), http.StatusRequestEntityTooLarge)
		return
	}
	if a.cfg.CheckRead != nil {
		r.Body = io.NopCloser(bytes.NewReader(body))
		req, err := remote.DecodeReadRequest(r)
		if err == nil {
			err = a.cfg.CheckRead(req)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
	}
	select {
	case a.reads <- struct{}{}:
		defer func() { <-a.reads }()
	case <-r.Context().Done():
		http.Error(w, fmt.Sprintf("waiting for one of %d places of remote read: %s", remoteReadConcurrency, r.Context().Err()), http.StatusServiceUnavailable)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	a.v1.ServeHTTP(w, r)
}
