package limit_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/limit"
)

func TestBudget(t *testing.T) {
	b := limit.NewBudget("rules", 100)
	require.NoError(t, b.Take(60))
	require.NoError(t, b.Take(40))
	err := b.Take(1)
	require.ErrorIs(t, err, limit.ErrExceeded)
	require.EqualError(t, err, "limit exceeded: rules of all stores together take more than 100 bytes")
}

func TestBudget_NilHasNoLimit(t *testing.T) {
	require.NoError(t, (*limit.Budget)(nil).Take(math.MaxInt64))
}
