package block_test

import (
	"encoding/json"
	"testing"

	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
)

func TestMeta_KeepsShardBesideOtherExtensions(t *testing.T) {
	s := block.Shard{Set: ulid.ULID{1}, Index: 2, Count: 3}
	for _, ext := range []string{"", "null", `{"other":1}`, `[1]`} {
		m := &block.Meta{}
		m.Thanos.Extensions = json.RawMessage(ext)
		require.Zero(t, m.Shard())
		m.SetShard(s)
		require.Equal(t, s, m.Shard())
		if ext == `{"other":1}` {
			require.Contains(t, string(m.Thanos.Extensions), `"other":1`)
		}
		m.SetShard(block.Shard{})
		require.Zero(t, m.Shard())
	}
	for _, bad := range []string{`{"hindsight_shard":{"index":3,"count":3}}`, `{"hindsight_shard":{"index":-1,"count":3}}`, `{"hindsight_shard":7}`} {
		m := &block.Meta{}
		m.Thanos.Extensions = json.RawMessage(bad)
		require.Zero(t, m.Shard(), bad)
	}
}
