package hashring

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// An unknown key that is ignored would move series to other nodes unnoticed.
func TestParse_RefusesUnknownKeys(t *testing.T) {
	f := func(want, content string) {
		t.Helper()
		_, err := Parse([]byte(content))
		require.ErrorContains(t, err, want)
	}
	f(`unknown key "endpionts"`, `[{"endpionts": ["a:1"], "endpoints": ["a:1"]}]`)
	f(`unknown key "adress"`, `[{"endpoints": [{"address": "a:1", "adress": "b:1"}]}]`)
	f(`unknown key "shards"`, `[{"endpoints": ["a:1"], "shuffle_sharding_config": {"shards": 3}}]`)
	f(`unknown key "tenant"`, `[{"endpoints": ["a:1"], "shuffle_sharding_config": {"shard_size": 1, "overrides": [{"tenant": ["x"]}]}}]`)
	f("more after the end", `[{"endpoints": ["a:1"]}] []`)
}
