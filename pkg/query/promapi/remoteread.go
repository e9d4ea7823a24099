package promapi

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/storage/remote"

	"github.com/hindsight-io/hindsight/pkg/errorid"
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
			errorid.Answer(w, http.StatusRequestEntityTooLarge, "", fmt.Sprintf("remote read request is larger than %d bytes", tooLarge.Limit))
			return
		}
		errorid.Answer(w, http.StatusBadRequest, errorid.Of(err), fmt.Sprintf("read the request: %s", err))
		return
	}
	if n, err := snappy.DecodedLen(body); err == nil && n > maxReadDecoded {
		errorid.Answer(w, http.StatusRequestEntityTooLarge, "", fmt.Sprintf("remote read request has %d bytes, more than %d", n, maxReadDecoded))
		return
	}
	if a.cfg.CheckRead != nil {
		r.Body = io.NopCloser(bytes.NewReader(body))
		req, err := remote.DecodeReadRequest(r)
		if err == nil {
			err = a.cfg.CheckRead(req)
		}
		if err != nil {
			errorid.Answer(w, http.StatusBadRequest, idOf(err, "bad_data", http.StatusBadRequest), err.Error())
			return
		}
	}
	select {
	case a.reads <- struct{}{}:
		defer func() { <-a.reads }()
	case <-r.Context().Done():
		errorid.Answer(w, http.StatusServiceUnavailable, errorid.QueryBusy, fmt.Sprintf("waiting for one of %d places of remote read: %s", remoteReadConcurrency, r.Context().Err()))
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	a.v1.ServeHTTP(w, r)
}
