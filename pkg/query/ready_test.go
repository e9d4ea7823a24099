package query

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// A querier above must not take the answer of one that has not looked for its stores yet
// for a complete one.
func TestNotReady_StoreOfOtherQueriersFails(t *testing.T) {
	cfg, err := parseConfig("--endpoint=127.0.0.1:1")
	require.NoError(t, err)
	q, err := New(cfg, Deps{})
	require.NoError(t, err)
	require.Error(t, q.Ready())
	_, _, err = q.offered().LabelNames(t.Context(), &storeapi.Request{})
	require.ErrorIs(t, err, storeapi.ErrUnavailable)
}
