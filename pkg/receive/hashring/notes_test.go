package hashring

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// The cache keeps the configured number of tenants' rings, the last used ones.
func TestShardCacheSize(t *testing.T) {
	specs, err := Parse([]byte(`[{"endpoints": ["a:1", "b:1", "c:1"], "shuffle_sharding_config": {"shard_size": 2, "cache_size": 2}}]`))
	require.NoError(t, err)
	rings, err := New(specs, Options{Algorithm: Ketama, Replicas: 1})
	require.NoError(t, err)
	of := func(tenant string) *Ring {
		r, err := rings.For(tenant)
		require.NoError(t, err)
		require.Len(t, r.Endpoints(), 2)
		return r
	}
	first, second := of("t1"), of("t2")
	require.Same(t, first, of("t1"))
	of("t3")
	require.Same(t, first, of("t1"), "it was used later than t2")
	require.NotSame(t, second, of("t2"), "it was built again")
	require.Equal(t, second.Endpoints(), of("t2").Endpoints())
	for i := range 50 {
		of(fmt.Sprint("x", i))
	}
	require.Len(t, rings.shards[0].by, 2)
	require.Equal(t, 2, rings.shards[0].order.Len())
}

func TestNotesNameWhatHasNoEffect(t *testing.T) {
	specs, err := Parse([]byte(`[
		{"hashring": "a", "endpoints": ["a:1", "b:1"], "shuffle_sharding_config": {"shard_size": 1, "cache_size": 5,
			"overrides": [{"shard_size": 2, "tenants": ["x"], "tenant_matcher_type": "exact"}, {"shard_size": 2, "tenants": ["y"]}]}},
		{"hashring": "b", "endpoints": ["a:1", "b:1"], "shuffle_sharding_config": {"cache_size": 5,
			"overrides": [{"shard_size": 2, "tenants": ["x"], "tenant_matcher_type": "exact"}]}},
		{"hashring": "c", "endpoints": ["a:1"]}]`))
	require.NoError(t, err)
	require.Equal(t, []string{
		`hashring "a": override 2 of the shard size matches no tenant, because it has no tenant_matcher_type (exact or glob)`,
		`hashring "b": override 1 of the shard size has no effect, because the hashring itself has no shard_size`,
		`hashring "b": cache_size has no effect without shard_size`,
	}, Notes(specs))
	_, err = Parse([]byte(`[{"endpoints": ["a:1"], "shuffle_sharding_config": {"cache_size": -1}}]`))
	require.ErrorContains(t, err, "cache_size is -1")
}
