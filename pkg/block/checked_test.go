package block_test

import (
	"testing"

	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
)

// The mark keeps other extensions, and does not hold for a block of another id, into which a
// program that does not know it copied it.
func TestMeta_SetChecked(t *testing.T) {
	m := &block.Meta{}
	m.ULID = ulid.MustParse("01EJ3PX000C4R3600000000000")
	require.False(t, m.Checked())
	m.Thanos.Extensions = []byte(`{"parquet_migrated":true}`)
	m.SetChecked(true)
	require.True(t, m.Checked())
	m.SetShard(block.Shard{Set: m.ULID, Count: 2})
	require.True(t, m.Checked())
	require.Equal(t, 2, m.Shard().Count)
	copied := m.Clone()
	copied.ULID = ulid.MustParse("01EJ3PX000C8R3600000000000")
	require.False(t, copied.Checked())
	m.SetShard(block.Shard{})
	m.SetChecked(false)
	require.JSONEq(t, `{"parquet_migrated":true}`, string(m.Thanos.Extensions))
	require.False(t, m.Checked())

	m.Thanos.Extensions = []byte(`["none"]`)
	require.False(t, m.Checked())
	m.SetChecked(true)
	require.True(t, m.Checked())
}
