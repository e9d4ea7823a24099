package markhttp

import (
	"encoding/json"
	"testing"

	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocklist"
	"github.com/hindsight-io/hindsight/pkg/reason"
)

func TestDescribe_HasSizesMarksAndPartialBlocks(t *testing.T) {
	sized, unsized, partial, listed := ulid.MustNew(1, nil), ulid.MustNew(2, nil), ulid.MustNew(3, nil), ulid.MustNew(4, nil)
	files := &block.Meta{}
	files.Thanos.Files = []block.File{{RelPath: "index", SizeBytes: 3}, {RelPath: "chunks/000001", SizeBytes: 9}, {RelPath: "meta.json"}}
	d := Describe(&blocklist.View{
		Sizes:     map[ulid.ULID]map[string]int64{sized: {"index": 3, "chunks/000001": 4}, unsized: {"index": 3, "chunks/000001": -1}, listed: {"index": -1}},
		Metas:     map[ulid.ULID]*block.Meta{listed: files, unsized: {}},
		Partial:   map[ulid.ULID]blocklist.Partial{partial: {Reason: reason.BlockMetaMissing}},
		Deletion:  map[ulid.ULID]*block.DeletionMark{partial: {Details: "old"}},
		NoCompact: map[ulid.ULID]*block.NoCompactMark{sized: {Reason: "manual"}},
	}, true)
	require.Equal(t, map[string]int64{sized.String(): 7, listed.String(): 12}, d.Sizes)
	require.Equal(t, map[string]string{partial.String(): reason.BlockMetaMissing.String()}, d.Partial)
	require.Equal(t, "old", d.Marks[partial.String()].Deletion.Details)
	require.Equal(t, "manual", d.Marks[sized.String()].NoCompact.Reason)
	require.Nil(t, d.Marks[sized.String()].Deletion)
	text, err := json.Marshal(Describe(nil, false))
	require.NoError(t, err)
	require.JSONEq(t, `{"sizes":{},"marks":{},"partial":{},"markable":false}`, string(text))
}
