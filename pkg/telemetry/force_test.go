package telemetry

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

func TestForceTracing_SamplesHereAndInCalledServers(t *testing.T) {
	p := sdktrace.NewTracerProvider(sdktrace.WithSampler(forced{sdktrace.ParentBased(sdktrace.NeverSample())}))
	_, span := p.Tracer("t").Start(t.Context(), "usual")
	require.False(t, span.SpanContext().IsSampled())
	ctx, span := p.Tracer("t").Start(ForceTracing(t.Context()), "forced")
	require.True(t, span.SpanContext().IsSampled())
	// The wish travels with the baggage, also to servers that heed no parent.
	header := propagation.MapCarrier{}
	propagation.Baggage{}.Inject(ctx, header)
	_, span = p.Tracer("t").Start(propagation.Baggage{}.Extract(t.Context(), header), "below")
	require.True(t, span.SpanContext().IsSampled())
}
