package queryopts_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/query/queryopts"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

func TestOptions_SettersRefuseInvalidValues(t *testing.T) {
	o := queryopts.Options{ReplicaLabels: []string{"replica"}, MaxSourceResolution: 1}
	require.EqualError(t, o.SetReplicaLabels([]string{"a", "\xff"}), `"\xff" is not a label name`)
	require.EqualError(t, o.SetShard(&storeapi.Shard{Index: 2, Total: 2}), "shard_index 2 is not one of the 2 of total_shards")
	require.EqualError(t, o.SetShard(&storeapi.Shard{}), "shard_index 0 is not one of the 0 of total_shards")
	require.ErrorContains(t, o.SetMaxSourceResolution(-time.Second), "a negative resolution is not accepted")
	require.Equal(t, queryopts.Options{ReplicaLabels: []string{"replica"}, MaxSourceResolution: 1}, o, "an error changes nothing")
}

func TestOptions_SettersNormalise(t *testing.T) {
	var o queryopts.Options
	require.NoError(t, o.SetReplicaLabels([]string{"b", "", "a", "b"}))
	require.NoError(t, o.SetShard(nil))
	require.NoError(t, o.SetMaxSourceResolution(5*time.Minute))
	require.Equal(t, queryopts.Options{ReplicaLabels: []string{"a", "b"}, MaxSourceResolution: 300_000}, o)
}

func TestDefaults_AutoResolution(t *testing.T) {
	d := queryopts.Defaults{InstantResolution: time.Hour}
	require.Equal(t, time.Hour, d.AutoResolution(0))
	require.Equal(t, 5*time.Minute, d.AutoResolution(25*time.Minute))
}

func TestContext(t *testing.T) {
	_, ok := queryopts.FromContext(t.Context())
	require.False(t, ok)
	o, ok := queryopts.FromContext(queryopts.NewContext(t.Context(), queryopts.Options{Dedup: true}))
	require.True(t, ok)
	require.True(t, o.Dedup)
}
