package blocklist_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"log/slog"
	"math"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocklist"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/bucket/buckettest"
	"github.com/hindsight-io/hindsight/pkg/reason"
)

// putIndex writes a block index whose lines are made of n repetitions.
func putIndex(t *testing.T, b bucket.Bucket, lines int, tail string) (unpacked int) {
	t.Helper()
	var buf bytes.Buffer
	z, err := gzip.NewWriterLevel(&buf, 1)
	require.NoError(t, err)
	header := fmt.Sprintf(`{"version":1,"taken":%q,"blocks":%d}`+"\n", time.Now().UTC().Format(time.RFC3339), lines)
	_, err = z.Write([]byte(header))
	require.NoError(t, err)
	for i := range lines {
		n, err := fmt.Fprintf(z, `{"id":"01M8%022d"%s}`+"\n", i, tail)
		require.NoError(t, err)
		unpacked += n
	}
	require.NoError(t, z.Close())
	require.NoError(t, b.Upload(t.Context(), blocklist.IndexName, bytes.NewReader(buf.Bytes()), int64(buf.Len())))
	return unpacked
}

// TestReadIndex_IgnoresIndexThatUnpacksTooFar reads indexes that unpack to 128 MiB of different
// kinds. The allocated bytes are in proportion to those of a usual index of the same
// packed size, and the log names the object.
func TestReadIndex_IgnoresIndexThatUnpacksTooFar(t *testing.T) {
	for name, tail := range map[string]string{
		"objects": `,"objects":[` + strings.TrimSuffix(strings.Repeat(`{"name":"a","size":1},`, 1000), ",") + `],"partial":{"reason":"x","error":"y"}`,
		"empty":   `,"objects":[` + strings.TrimSuffix(strings.Repeat(`{},`, 8000), ",") + `],"partial":{"reason":"x","error":"y"}`,
		"text":    `,"objects":[],"meta":{"x":"` + strings.Repeat("a", 1<<20) + `"}`,
	} {
		b := bucket.NewMemory()
		unpacked := putIndex(t, b, (128<<20)/len(tail), tail)
		require.Greater(t, unpacked, 100<<20)
		var log bytes.Buffer
		p := blocklist.NewPoller(b, blocklist.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := p.ReadIndex(context.Background(), time.Hour)
		runtime.ReadMemStats(&after)
		require.ErrorIs(t, err, blocklist.ErrNoIndex, name)
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(160<<20), name)
		require.Contains(t, log.String(), blocklist.IndexName, name)
	}
}

// TestPoll_RefusesMetaWithTooManyElements has a meta.json whose lists would take hundreds
// of megabytes; the log names it, and the other block is listed.
func TestPoll_RefusesMetaWithTooManyElements(t *testing.T) {
	b := blocktest.Bucket(t, "meta a range=0h..2h labels={x=\"y\"}\nmeta b range=0h..2h labels={x=\"y\"}\n")
	id := blocktest.ID("a")
	doc := `{"ulid":"` + id.String() + `","version":1,"thanos":{"files":[` + strings.Repeat("{},", 2<<20) + `{}]}}`
	require.NoError(t, b.Upload(t.Context(), block.Path(id, block.MetaFile), strings.NewReader(doc), int64(len(doc))))
	var log bytes.Buffer
	v, err := blocklist.NewPoller(b, blocklist.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))}).Poll(context.Background())
	require.NoError(t, err)
	require.Contains(t, v.Metas, blocktest.ID("b"))
	require.Equal(t, reason.BlockMetaMalformed, v.Unusable[id].Reason)
	require.Contains(t, log.String(), id.String())
}

// TestPoll_IgnoresDeletionTimesOutOfRange has marks with times outside the years 1970
// to 9999. The log names them, and no block is deleted at once.
func TestPoll_IgnoresDeletionTimesOutOfRange(t *testing.T) {
	for _, at := range []int64{0, -1, math.MinInt64, math.MaxInt64, 9223372036854775, 253402300800} {
		b := blocktest.Bucket(t, "meta a range=0h..2h labels={x=\"y\"}\n")
		id := blocktest.ID("a")
		doc := fmt.Sprintf(`{"id":%q,"version":1,"deletion_time":%d}`, id, at)
		require.NoError(t, b.Upload(t.Context(), block.Path(id, block.DeletionMarkFile), strings.NewReader(doc), int64(len(doc))))
		var log bytes.Buffer
		v, err := blocklist.NewPoller(b, blocklist.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))}).Poll(context.Background())
		require.NoError(t, err)
		require.Empty(t, v.Deletion, "%d", at)
		require.Equal(t, 1, v.BadMarks, "%d", at)
		require.Contains(t, log.String(), id.String(), "%d", at)
	}
}

// TestPoll_ExcludesRefusedBlock distinguishes one object that the bucket refuses from
// credentials that allow listing only.
func TestPoll_ExcludesRefusedBlock(t *testing.T) {
	b := blocktest.Bucket(t, "meta a range=0h..2h labels={x=\"y\"}\nmeta b range=0h..2h labels={x=\"y\"}\n")
	refused := block.Path(blocktest.ID("a"), block.MetaFile)
	faulty := buckettest.NewFaulty(b, func(op buckettest.Op) buckettest.Fault {
		if op.Name == refused {
			return buckettest.Fault{Err: bucket.ErrAccessDenied}
		}
		return buckettest.Fault{}
	})
	v, err := blocklist.NewPoller(faulty, blocklist.Config{}).Poll(context.Background())
	require.NoError(t, err)
	require.Contains(t, v.Metas, blocktest.ID("b"))
	require.Equal(t, reason.BlockMetaRefused, v.Unusable[blocktest.ID("a")].Reason)

	faulty.SetRule(func(op buckettest.Op) buckettest.Fault {
		if op.Kind == "get" {
			return buckettest.Fault{Err: bucket.ErrAccessDenied}
		}
		return buckettest.Fault{}
	})
	_, err = blocklist.NewPoller(faulty, blocklist.Config{}).Poll(context.Background())
	require.ErrorIs(t, err, bucket.ErrAccessDenied)
}

// TestPoll_ExcludesBlockThatKeepsFailing has one block that cannot be read, and then a
// bucket in which none can, which stays an error.
func TestPoll_ExcludesBlockThatKeepsFailing(t *testing.T) {
	b := blocktest.Bucket(t, "meta a range=0h..2h labels={x=\"y\"}\nmeta b range=0h..2h labels={x=\"y\"}\nmeta c range=0h..2h labels={x=\"y\"}\n")
	id := blocktest.ID("a")
	faulty := buckettest.NewFaulty(b, func(op buckettest.Op) buckettest.Fault {
		if op.Name == block.Path(id, block.MetaFile) {
			return buckettest.Fault{Err: buckettest.ErrInjected}
		}
		return buckettest.Fault{}
	})
	p := blocklist.NewPoller(faulty, blocklist.Config{})
	for range 2 {
		_, err := p.Poll(context.Background())
		require.ErrorIs(t, err, buckettest.ErrInjected)
	}
	for range 2 {
		v, err := p.Poll(context.Background())
		require.NoError(t, err)
		require.Len(t, v.Metas, 2)
		require.Equal(t, reason.BlockMetaRefused, v.Unusable[id].Reason)
	}
	faulty.SetRule(nil)
	v, err := p.Poll(context.Background())
	require.NoError(t, err)
	require.Len(t, v.Metas, 3)

	faulty.SetRule(func(op buckettest.Op) buckettest.Fault {
		if op.Kind == "get" {
			return buckettest.Fault{Err: buckettest.ErrInjected}
		}
		return buckettest.Fault{}
	})
	p = blocklist.NewPoller(faulty, blocklist.Config{})
	for range 5 {
		_, err := p.Poll(context.Background())
		require.ErrorIs(t, err, buckettest.ErrInjected)
	}
}
