package receive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"

	"github.com/hindsight-io/hindsight/pkg/receive/remotewrite"
	"github.com/hindsight-io/hindsight/pkg/receive/replicate"
	"github.com/hindsight-io/hindsight/pkg/tenant"
)

// RegisterWrite adds the write endpoints of all families to a mux.
func (r *Receive) RegisterWrite(mux *http.ServeMux) {
	for _, path := range []string{
		"/api/v1/receive", "/api/v1/push", "/api/v1/write", "/api/prom/push", "/api/v1/push/{" + tenantElement + "}",
	} {
		mux.HandleFunc("POST "+path, r.handleWrite)
	}
	for _, path := range []string{"/api/v1/otlp", "/api/v1/otlp/v1/metrics", "/otlp/v1/metrics"} {
		mux.HandleFunc("POST "+path, r.handleOTLP)
	}
}

// tenantElement is the element of a path that names the tenant.
const tenantElement = "tenant"

// tenant finds out whose data a write is. A tenant in the path must be the one of
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
	return id, nil
}

// handleWrite takes one remote write request.
func (r *Receive) handleWrite(w http.ResponseWriter, req *http.Request) {
	began := time.Now()
	n, code, err := r.write(w, req)
	if err != nil {
		code = r.respond(w, req, err)
	}
	r.metrics.requests.WithLabelValues(strconv.Itoa(code)).Inc()
	r.metrics.duration.Observe(time.Since(began).Seconds())
	r.metrics.samples.Add(float64(n.Samples + n.Histograms))
}

// write does the work of handleWrite. It has answered when the error is nil.
func (r *Receive) write(w http.ResponseWriter, req *http.Request) (n remotewrite.Counts, code int, err error) {
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
	// Who sends slowly holds nobody's place: the body is here before its turn comes.
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
	err = withLeftOut(id, batch, r.distribute(req.Context(), id, batch, replica))
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

// protocolVersion says which version of remote write the headers announce.
func protocolVersion(h http.Header) (int, error) {
	if encoding := h.Get("Content-Encoding"); encoding != "" && encoding != "snappy" {
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
		// What tools say that do not think about it: version 1.
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

// unsupported is an answer about the form of a request, not its data.
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

// decode decodes the body, which it releases. Every size is checked before memory
// is taken for it, and all requests together stay below a bound, for which one
// waits here. The share of it is the caller's to free, also after an error.
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
		// What is really written is mostly a small part of what it might be.
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

// distribute relabels and splits where configured, and writes to the ring or to
// this node.
func (r *Receive) distribute(ctx context.Context, id string, b *remotewrite.Batch, replica int) error {
	reqs := []replicate.Request{{Tenant: id, Batch: b}}
	if len(*r.relabel.Load()) > 0 || r.cfg.SplitTenantLabel != "" {
		groups, err := r.rewrite(id, b)
		if err != nil {
			return err
		}
		reqs = reqs[:0]
		for group, batch := range groups {
			defer batch.Close()
			reqs = append(reqs, replicate.Request{Tenant: group, Batch: batch})
		}
		if len(b.Metadata()) > 0 {
			only := b.OnlyMetadata()
			defer only.Close()
			reqs = append(reqs, replicate.Request{Tenant: id, Batch: only})
		}
	} else if r.writer != nil {
		// The ring hashes labels in the order of the request.
		normal, err := remotewrite.Normalize(b)
		if err != nil {
			return err
		}
		if normal != b {
			defer normal.Close()
			reqs[0].Batch = normal
		}
	}
	return r.storeAll(ctx, reqs, replica)
}

func (r *Receive) storeAll(ctx context.Context, reqs []replicate.Request, replica int) error {
	reqs, above := r.withinLimits(reqs)
	if above != nil && len(reqs) == 0 {
		return above
	}
	return withAbove(above, r.storeEach(ctx, reqs, replica), reqs)
}

func (r *Receive) storeEach(ctx context.Context, reqs []replicate.Request, replica int) error {
	if r.writer == nil {
		return r.storeHere(ctx, reqs)
	}
	described := r.describe(reqs)
	err := r.writer.Write(ctx, reqs, replica)
	if err != nil || described == nil {
		return err
	}
	var all remotewrite.Counts
	for _, q := range reqs {
		all = all.Plus(q.Batch.Counts())
	}
	return &remotewrite.WriteError{Kind: remotewrite.KindOf(described), Err: described, Stored: &all}
}

// describe notes the metadata of the requests. It stays on the node that it came
// to, as queries ask all of them; a node that only routes sends it on. A tenant
// that is not taken here is no error beside series, of which the ring decides.
func (r *Receive) describe(reqs []replicate.Request) (first error) {
	if _, self := r.writer.Rings(); self == "" {
		return nil
	}
	for _, q := range reqs {
		err := r.db.SetMetadata(q.Tenant, q.Batch.Metadata())
		if err != nil && first == nil && (q.Batch.Len() == 0 || remotewrite.KindOf(err) == remotewrite.Invalid) {
			first = err
		}
	}
	return first
}

// storeHere stores the requests on this node. Its error is the one with the
// highest claim on the sender, with what was stored of all of them.
func (r *Receive) storeHere(ctx context.Context, reqs []replicate.Request) error {
	var (
		worst  error
		stored remotewrite.Counts
	)
	for _, q := range reqs {
		err := r.db.Write(ctx, q.Tenant, q.Batch, nil)
		stored = stored.Plus(remotewrite.StoredOf(err, q.Batch.Counts()))
		if err != nil && (worst == nil || remotewrite.KindOf(err) > remotewrite.KindOf(worst)) {
			worst = err
		}
	}
	if worst != nil && len(reqs) > 1 {
		return &remotewrite.WriteError{Kind: remotewrite.KindOf(worst), Err: worst, Stored: &stored}
	}
	return worst
}

// rewrite applies the relabelling rules and finds the tenant of each series.
func (r *Receive) rewrite(id string, b *remotewrite.Batch) (map[string]*remotewrite.Batch, error) {
	builder, rules := labels.NewBuilder(labels.EmptyLabels()), *r.relabel.Load()
	return remotewrite.Rewrite(b, func(ls labels.Labels) (labels.Labels, string, bool, error) {
		builder.Reset(ls)
		if len(rules) > 0 && !relabel.ProcessBuilder(builder, rules...) {
			return ls, "", false, nil
		}
		group := id
		if name := r.cfg.SplitTenantLabel; name != "" {
			if v := builder.Get(name); v != "" {
				if err := tenant.Validate(v); err != nil {
					return ls, "", false, remotewrite.Errorf(remotewrite.Invalid, "label %s: %w", name, err)
				}
				group = strings.Clone(v)
				builder.Del(name)
			}
		}
		out := builder.Labels()
		return out, group, !out.IsEmpty(), nil
	})
}

// withLeftOut adds what decoding and relabelling had to leave out of the batch to
// the error of writing the rest.
func withLeftOut(id string, b *remotewrite.Batch, err error) error {
	leftOut := b.Rejected(id)
	if err == nil || leftOut == nil {
		return cmp.Or(err, leftOut)
	}
	stored := remotewrite.StoredOf(err, b.Counts())
	return &remotewrite.WriteError{
		Kind: remotewrite.KindOf(err), Stored: &stored, Err: fmt.Errorf("%w; and %w", err, leftOut),
	}
}

// version2Error has one status for data that cannot be stored, whatever the
// reason, as version 2 wants it.
func version2Error(err error) error {
	if remotewrite.KindOf(err) == remotewrite.Conflict {
		return &remotewrite.WriteError{Kind: remotewrite.Invalid, Err: err}
	}
	return err
}

// writtenHeaders tells a sender of version 2 how much was stored.
func writtenHeaders(h http.Header, c remotewrite.Counts, err error) {
	if err != nil {
		c = remotewrite.StoredOf(err, c)
	}
	h.Set("X-Prometheus-Remote-Write-Samples-Written", strconv.Itoa(c.Samples))
	h.Set("X-Prometheus-Remote-Write-Histograms-Written", strconv.Itoa(c.Histograms))
	h.Set("X-Prometheus-Remote-Write-Exemplars-Written", strconv.Itoa(c.Exemplars))
}

// respond tells the sender what went wrong and what to do about it.
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
	http.Error(w, err.Error(), code)
	if code >= http.StatusInternalServerError && kind != remotewrite.NotReady && r.mayWarn(time.Now()) {
		r.logger.Warn("writes fail, this is one of them", "kind", kind.String(), "from", req.RemoteAddr, "err", err)
	} else {
		r.logger.Debug("write failed", "kind", kind.String(), "from", req.RemoteAddr, "err", err)
	}
	return code
}

// mayWarn is true once in ten seconds: in an outage every request fails, and the
// metrics count them.
func (r *Receive) mayWarn(now time.Time) bool {
	last := r.warned.Load()
	return now.Unix()-last >= 10 && r.warned.CompareAndSwap(last, now.Unix())
}
