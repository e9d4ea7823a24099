package server

import (
	"net/http"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/hindsight-io/hindsight/pkg/requestid"
	"github.com/hindsight-io/hindsight/pkg/telemetry"
)

// maxSpanPath bounds the path of a request in its span, in bytes.
const maxSpanPath = 256

// traced makes a span of each request, a child of that of the W3C headers of the request.
// Spans have no parameters of URLs and no headers, because these hold secrets. It must be
// outside of what observes exemplars.
func (s site) traced(next http.Handler) http.Handler {
	if s.tracer == nil {
		return next
	}
	tracer := s.tracer.Tracer("github.com/hindsight-io/hindsight/pkg/server")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := otel.GetTextMapPropagator().Extract(r.Context(), propagation.HeaderCarrier(r.Header))
		if r.Header.Get(telemetry.ForceTracingHeader) != "" {
			ctx = telemetry.ForceTracing(ctx)
		}
		ctx, span := tracer.Start(ctx, methodLabel(r.Method)+" "+handlerName(r.URL.Path), trace.WithSpanKind(trace.SpanKindServer),
			trace.WithAttributes(attribute.String("http.request.method", r.Method), attribute.String("url.path", r.URL.Path[:min(len(r.URL.Path), maxSpanPath)])))
		defer span.End()
		if c := span.SpanContext(); c.IsSampled() {
			w.Header().Set(telemetry.TraceIDHeader, c.TraceID().String())
		}
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// noteStatus notes the status and the id of each request in its span.
func (s site) noteStatus(next http.Handler) http.Handler {
	if s.tracer == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		span := trace.SpanFromContext(r.Context())
		if !span.IsRecording() {
			next.ServeHTTP(w, r)
			return
		}
		noted := &notedStatus{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(noted, r)
		span.SetAttributes(attribute.Int("http.response.status_code", noted.status), attribute.String("request.id", requestid.FromContext(r.Context())))
		if noted.status >= http.StatusInternalServerError {
			span.SetStatus(codes.Error, http.StatusText(noted.status))
		}
	})
}

// notedStatus is an answer whose status is kept.
type notedStatus struct {
	http.ResponseWriter
	status int
}

// WriteHeader keeps the last status, which is the final one.
func (w *notedStatus) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Flush implements http.Flusher.
func (w *notedStatus) Flush() {
	_ = http.NewResponseController(w.ResponseWriter).Flush() // the next write has the error
}

// Unwrap is for http.ResponseController.
func (w *notedStatus) Unwrap() http.ResponseWriter { return w.ResponseWriter }
