package receive

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hindsight-io/hindsight/pkg/errorid"
	"github.com/hindsight-io/hindsight/pkg/grpcmetrics"
	"github.com/hindsight-io/hindsight/pkg/receive/remotewrite"
	"github.com/hindsight-io/hindsight/pkg/requestid"
	"github.com/hindsight-io/hindsight/pkg/tenant"
)

// RegisterWrite adds the write endpoints of all families to a mux.
func (r *Receive) RegisterWrite(mux *http.ServeMux) {
	for _, path := range []string{
		"/api/v1/receive", "/api/v1/push", "/api/v1/write", "/api/prom/push", "/api/v1/push/{" + tenantElement + "}",
	} {
		mux.HandleFunc("POST "+path, r.answering(r.handleWrite))
	}
	for _, path := range []string{"/api/v1/otlp", "/api/v1/otlp/v1/metrics", "/otlp/v1/metrics"} {
		mux.HandleFunc("POST "+path, r.answering(r.handleOTLP))
	}
}

// tenantElement is the element of a path that names the tenant.
const tenantElement = "tenant"

// tenant returns the tenant of a write. A tenant in the path must be the one of
// the client's certificate, or of the header, when there is one.
func (r *Receive) tenant(req *http.Request) (string, error) {
	src := r.tenants
	named := req.PathValue(tenantElement)
	if named != "" && src.CertificateField == "" {
		src.Default = named
	}
	id, err := tenant.FromHTTP(req, src)
	if err == nil && named != "" && named != id {
		err = fmt.Errorf("%w: the path names %q, the header or certificate %q", tenant.ErrInvalid, named, id)
	}
	if err != nil {
		return "", &remotewrite.WriteError{Kind: remotewrite.Invalid, Err: err}
	}
	tenant.Note(req.Context(), id)
	return id, nil
}

// answering makes the handler of a write endpoint. serve has answered when its
// error is nil; otherwise the error is the answer. The counts are those of the
// request.
func (r *Receive) answering(serve func(http.ResponseWriter, *http.Request) (remotewrite.Counts, int, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		began := time.Now()
		n, code, err := serve(w, req)
		if err != nil {
			code = r.respond(w, req, err)
		}
		r.metrics.requests.WithLabelValues(strconv.Itoa(code)).Inc()
		if o, ok := r.metrics.duration.(prometheus.ExemplarObserver); ok {
			o.ObserveWithExemplar(time.Since(began).Seconds(), grpcmetrics.Exemplar(req.Context()))
		}
		r.metrics.samples.Add(float64(n.Samples + n.Histograms))
	}
}

// handleWrite serves one remote write request.
func (r *Receive) handleWrite(w http.ResponseWriter, req *http.Request) (n remotewrite.Counts, code int, err error) {
	var none remotewrite.Counts
	if err := r.Ready(); err != nil {
		return none, 0, &remotewrite.WriteError{Kind: remotewrite.NotReady, Err: err}
	}
	id, err := r.tenant(req)
	if err != nil {
		return none, 0, err
	}
	version, err := protocolVersion(req.Header)
	if err != nil {
		return none, 0, err
	}
	replica, err := r.replica(req.Header)
	if err != nil {
		return none, 0, err
	}
	if version == 2 {
		writtenHeaders(w.Header(), none, nil) // until more is known
	}
	// Read the whole body before taking a slot of the concurrency gate, so that a
	// slow sender cannot block others.
	body, err := r.readBody(req, id)
	if err != nil {
		return none, 0, r.sizeError(id, err)
	}
	done, err := r.admit(req.Context())
	if err != nil {
		body.Release()
		return none, 0, err
	}
	defer done()
	batch, memory, err := r.decode(req.Context(), id, version, body)
	defer memory.free()
	if err != nil {
		return none, 0, r.sizeError(id, err)
	}
	defer batch.Close()
	counts := batch.Counts()
	err = r.distribute(req.Context(), id, batch, replica)
	if version == 2 {
		writtenHeaders(w.Header(), batch.Counts(), err)
		err = version2Error(err)
	}
	if err != nil {
		return counts, 0, err
	}
	code = success(version)
	w.WriteHeader(code)
	return counts, code, nil
}

// success is the status of a write that was stored: the one that the suite for
// receivers of version 2 expects, and that of Thanos for version 1. To senders
// they are the same.
func success(version int) int {
	if version == 2 {
		return http.StatusNoContent
	}
	return http.StatusOK
}

// protocolVersion returns the version of remote write that the headers announce.
func protocolVersion(h http.Header) (int, error) {
	if encoding := h.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "snappy") {
		return 0, unsupported("content encoding", encoding)
	}
	contentType := h.Get("Content-Type")
	if contentType == "" {
		return 1, nil
	}
	media, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		return 0, unsupported("content type", contentType)
	}
	switch media {
	case "application/x-protobuf":
	case "application/octet-stream", "application/x-www-form-urlencoded":
		// The defaults of some HTTP tools: version 1.
		return 1, nil
	default:
		return 0, unsupported("content type", contentType)
	}
	switch params["proto"] {
	case "io.prometheus.write.v2.Request":
		return 2, nil
	case "", "prometheus.WriteRequest":
		return 1, nil
	}
	return 0, unsupported("message", params["proto"])
}

// unsupported is the error for the form of a request, not its data.
func unsupported(what, got string) error {
	return &statusError{code: http.StatusUnsupportedMediaType, text: fmt.Sprintf("unsupported %s %q", what, got)}
}

// statusError has an HTTP status of its own.
type statusError struct {
	code int
	text string
}

func (e *statusError) Error() string { return e.text }

func (r *Receive) replica(h http.Header) (int, error) {
	text := h.Get(r.cfg.ReplicaHeader)
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return 0, remotewrite.Errorf(remotewrite.Invalid, "could not parse replica header %s: %w", r.cfg.ReplicaHeader, err)
	}
	return int(n), nil
}

// decode decodes the body, which it releases. It checks every size before it takes
// memory, and waits while all requests together are at their bound. The caller frees
// the share of that memory, also after an error.
func (r *Receive) decode(ctx context.Context, id string, version int, body *body) (b *remotewrite.Batch, memory *share, err error) {
	limit := r.requestLimit(id)
	written := int64(0) // the most that its symbols written out may take
	if size := remotewrite.DecompressedSize(body.B); size <= limit {
		if version == 2 {
			written = min(maxExpansion*size, r.cfg.MaxRequestBytes.Int64())
		}
		if memory, err = r.reserve(ctx, size+written); err != nil {
			body.Release()
			return nil, nil, err
		}
	}
	plain, err := remotewrite.Decompress(body.B, limit)
	body.Release()
	if err != nil {
		if remotewrite.KindOf(err) == remotewrite.Other {
			err = &remotewrite.WriteError{Kind: remotewrite.Invalid, Err: err}
		}
		return nil, memory, err
	}
	if version == 2 {
		// The result is mostly a small part of the reserved memory.
		if b, err = remotewrite.TranscodeV2(plain, written); err == nil {
			memory.shrink(int64(cap(b.Buffer().B)))
		}
	} else {
		b, err = remotewrite.ScanV1(plain, plain.B)
	}
	if err != nil {
		return nil, memory, err
	}
	if err := r.checkContent(id, b.Counts()); err != nil {
		b.Close()
		return nil, memory, err
	}
	return b, memory, nil
}

// maxExpansion is how much larger a request of remote write 2.0 may get when
// its symbols are written out. Thirty labels of 60 bytes each are some 25 times
// their references.
const maxExpansion = 64

// version2Error has one status for data that cannot be stored, whatever the
// reason, as version 2 wants it.
func version2Error(err error) error {
	if remotewrite.KindOf(err) == remotewrite.Conflict {
		return &remotewrite.WriteError{Kind: remotewrite.Invalid, Err: err}
	}
	return err
}

// writtenHeaders reports to a sender of version 2 how much was stored.
func writtenHeaders(h http.Header, c remotewrite.Counts, err error) {
	if err != nil {
		c = remotewrite.StoredOf(err, c)
	}
	h.Set("X-Prometheus-Remote-Write-Samples-Written", strconv.Itoa(c.Samples))
	h.Set("X-Prometheus-Remote-Write-Histograms-Written", strconv.Itoa(c.Histograms))
	h.Set("X-Prometheus-Remote-Write-Exemplars-Written", strconv.Itoa(c.Exemplars))
}

// respond answers a failed write and logs it. It returns the status.
func (r *Receive) respond(w http.ResponseWriter, req *http.Request, err error) int {
	kind := remotewrite.KindOf(err)
	code := kind.Status()
	var own *statusError
	if errors.As(err, &own) {
		code = own.code
	}
	if wait := retryAfter(err); wait > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(wait))
	}
	id := requestid.FromContext(req.Context())
	errorid.Answer(w, code, identify(err, code), requestid.Text(w.Header(), code, err.Error()))
	if code >= http.StatusInternalServerError && kind != remotewrite.NotReady && r.mayWarn(time.Now()) {
		r.logger.Warn("write failed", "reason", kind.String(), "address", req.RemoteAddr, "request_id", id, "err", err)
	} else {
		r.logger.Debug("write failed", "reason", kind.String(), "address", req.RemoteAddr, "request_id", id, "err", err)
	}
	return code
}

// forwarded logs the result of a write that a peer has forwarded, with the id of the
// request of the client, as respond does on the node that the client wrote to.
func (r *Receive) forwarded(ctx context.Context, tenant string, requestID []byte, err error) {
	kind, level := remotewrite.KindOf(err), slog.LevelDebug
	if err != nil && kind.Status() >= http.StatusInternalServerError && kind != remotewrite.NotReady && r.mayWarn(time.Now()) {
		level = slog.LevelWarn
	}
	if !r.logger.Enabled(ctx, level) {
		return
	}
	id := ""
	if len(requestID) > 0 {
		id = requestid.Accept(string(requestID)) // a peer may send any bytes
	}
	if err == nil {
		r.logger.Debug("forwarded write stored", "tenant", tenant, "request_id", id)
		return
	}
	r.logger.Log(ctx, level, "forwarded write failed", "reason", kind.String(), "tenant", tenant, "request_id", id, "err", err)
}

// identify returns the id of the error of a write with this status.
func identify(err error, code int) errorid.ID {
	if id := errorid.Of(err); id != "" || code != http.StatusInternalServerError {
		return id
	}
	return errorid.WriteFailed
}

// mayWarn returns true once in ten seconds: in an outage every request fails, and
// the metrics count them.
func (r *Receive) mayWarn(now time.Time) bool {
	last := r.warned.Load()
	return now.Unix()-last >= 10 && r.warned.CompareAndSwap(last, now.Unix())
}
