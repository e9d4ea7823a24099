package compact_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/bucket/buckettest"
	"github.com/hindsight-io/hindsight/pkg/compact"
)

// refuseWrites fails every upload.
func refuseWrites(err error) func(buckettest.Op) buckettest.Fault {
	return func(op buckettest.Op) buckettest.Fault {
		if op.Kind == "upload" {
			return buckettest.Fault{Err: fmt.Errorf("upload %s: %w", op.Name, err)}
		}
		return buckettest.Fault{}
	}
}

// A bucket refuses writes. Marked blocks are deleted, and so is a block that is long
// out of retention and cannot be marked; no blocks are merged.
func TestRunOnce_DeletesFromFullBucket(t *testing.T) {
	for _, cause := range []error{bucket.ErrFull, bucket.ErrAccessDenied, buckettest.ErrInjected} {
		b := blocktest.Bucket(t, twoHours(6, "a", `{cluster="eu"}`)+`
meta due range=48h..50h labels={cluster="us"}
mark due deletion at=1h
meta expired range=48h..50h labels={cluster="us"} resolution=5m
`)
		faulty := buckettest.NewFaulty(b, refuseWrites(cause))
		c := newCompactor(t, faulty, "--retention.resolution-5m=10d", "--downsampling.disable")
		require.ErrorIs(t, c.RunOnce(context.Background()), cause, "the pass says that it could not do all")
		v := poll(t, b)
		require.NotContains(t, v.Metas, blocktest.ID("due"))
		if !errors.Is(cause, buckettest.ErrInjected) { // which may be gone at the next try
			require.NotContains(t, v.Metas, blocktest.ID("expired"))
		}
		require.Zero(t, faulty.Count("get_range"), "no block is downloaded")

		faulty.SetRule(nil)
		require.NoError(t, c.RunOnce(context.Background()))
		require.Contains(t, strings.Join(live(t, b), "\n"), "0..8h res=0 level=2")
	}
}

// TestPublish_FailedUploadLeavesNothing has a bucket that becomes full during the
// upload of a result.
func TestPublish_FailedUploadLeavesNothing(t *testing.T) {
	b := blocktest.Bucket(t, twoHours(6, "a", `{cluster="eu"}`))
	before := list(t, b)
	faulty := buckettest.NewFaulty(b, func(op buckettest.Op) buckettest.Fault {
		if op.Kind == "upload" && strings.HasSuffix(op.Name, block.IndexFile) {
			return buckettest.Fault{Err: bucket.ErrFull}
		}
		return buckettest.Fault{}
	})
	require.ErrorIs(t, newCompactor(t, faulty).RunOnce(context.Background()), bucket.ErrFull)
	var after []string
	for _, name := range list(t, b) {
		if !strings.HasPrefix(name, "hindsight/") {
			after = append(after, name)
		}
	}
	require.Equal(t, before, after)
}

func TestRunOnce_LogsInvalidBlockOnce(t *testing.T) {
	b := blocktest.Bucket(t, twoHours(6, "a", `{cluster="eu"}`)+`
meta invalid range=0h..9000d labels={cluster="eu"}
mark invalid no-downsample at=1h
block none range=0h..48h labels={cluster="ab"}
  up 0h..48h/5m:1+1
`)
	// A block without sources is downsampled once.
	change(t, b, blocktest.ID("none"), block.MetaFile, func(data []byte) []byte {
		m, err := block.ParseMeta(data)
		require.NoError(t, err)
		m.Compaction.Sources = nil
		data, err = m.Encode()
		require.NoError(t, err)
		return data
	})
	var log bytes.Buffer
	c, err := compact.New(config(t), compact.Deps{Bucket: b, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	require.NoError(t, err)
	require.NoError(t, c.RunOnce(context.Background()))
	require.NoError(t, c.RunOnce(context.Background()))
	require.Contains(t, strings.Join(live(t, b), "\n"), "0..8h res=0 level=2")
	require.Equal(t, 1, strings.Count(strings.Join(live(t, b), "\n"), "0..48h res=5"))
	lines := 0
	for line := range strings.Lines(log.String()) {
		if strings.Contains(line, "block skipped") {
			require.Contains(t, line, blocktest.ID("invalid").String())
			require.Contains(t, line, "reason=time_range_too_long")
			lines++
		}
	}
	require.Equal(t, 1, lines)
}

// TestMark_UnknownBlockIs404 marks a block that does not exist, one that has no
// meta.json, and one with a text that is too long.
func TestMark_UnknownBlockIs404(t *testing.T) {
	b := blocktest.Bucket(t, twoHours(1, "a", `{cluster="eu"}`))
	partial := blocktest.ID("partial")
	require.NoError(t, b.Upload(context.Background(), block.Path(partial, block.IndexFile), strings.NewReader("x"), 1))
	c := newCompactor(t, b)
	mark := func(id, detail string) int {
		return serve(t, c, "POST", "/api/v1/blocks/mark", url.Values{"id": {id}, "action": {"DELETION"}, "detail": {detail}}).Code
	}
	unknown := blocktest.ID("unknown")
	require.Equal(t, http.StatusNotFound, mark(unknown.String(), ""))
	for _, name := range list(t, b) {
		require.NotContains(t, name, unknown.String())
	}
	require.Equal(t, http.StatusBadRequest, mark(partial.String(), strings.Repeat("x", 5000)))
	require.Equal(t, http.StatusNoContent, mark(partial.String(), "by hand"))
	require.Equal(t, http.StatusMethodNotAllowed, serve(t, c, "GET", "/api/v1/blocks/mark?id="+partial.String()+"&action=DELETION", nil).Code)
}
