package abort_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/abort"
)

func TestFrom_EndsTheCallOfTheContext(t *testing.T) {
	require.Nil(t, abort.From(t.Context()))
	ctx, end := abort.With(t.Context())
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	why := errors.New("memory is short")
	abort.From(inner)(why)
	require.ErrorIs(t, context.Cause(inner), why)
	end(nil) // the first reason stays
	require.ErrorIs(t, context.Cause(ctx), why)
}
