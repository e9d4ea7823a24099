package telemetry

import (
	"context"

	"go.opentelemetry.io/otel/baggage"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// Headers of HTTP by which a client forces the trace of a request, with any value, and by
// which the answer names the trace. They are those of Thanos.
const (
	ForceTracingHeader = "X-Thanos-Force-Tracing"
	TraceIDHeader      = "X-Thanos-Trace-Id"
)

// forceKey is the member of the W3C baggage that carries the wish to other servers.
const forceKey = "x-thanos-force-tracing"

// ForceTracing returns ctx in which every span is sampled, here and in the servers that
// are called with it, whatever their samplers say.
func ForceTracing(ctx context.Context) context.Context {
	m, err := baggage.NewMember(forceKey, "true")
	if err != nil {
		return ctx // the member is valid
	}
	b, err := baggage.FromContext(ctx).SetMember(m)
	if err != nil {
		return ctx // the baggage of the request is full
	}
	return baggage.ContextWithBaggage(ctx, b)
}

// forced samples the spans of forced traces, and the others as its sampler does.
type forced struct{ sdktrace.Sampler }

// ShouldSample implements sdktrace.Sampler.
func (f forced) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	if baggage.FromContext(p.ParentContext).Member(forceKey).Value() != "" {
		return sdktrace.SamplingResult{
			Decision: sdktrace.RecordAndSample, Tracestate: trace.SpanContextFromContext(p.ParentContext).TraceState(),
		}
	}
	return f.Sampler.ShouldSample(p)
}
