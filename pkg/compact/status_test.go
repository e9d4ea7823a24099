package compact_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/bucket/buckettest"
	"github.com/hindsight-io/hindsight/pkg/compact"
)

type status struct {
	Data struct {
		Todo    map[string]int
		Running []struct {
			Kind, Group, Started string
			Blocks               []string
			Samples              int
		}
		Jobs []struct{ Kind, Group, Reason string }
	}
}

func readStatus(t *testing.T, c *compact.Compactor) (s status) {
	t.Helper()
	w := serve(t, c, http.MethodGet, "/api/v1/compact/status", nil)
	require.Equal(t, http.StatusOK, w.Code)
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &s))
	return s
}

func TestStatus_HasRunningJobsAndPlan(t *testing.T) {
	b := blocktest.Bucket(t, twoHours(6, "a", `{cluster="eu"}`))
	var c *compact.Compactor
	var during status
	faulty := buckettest.NewFaulty(b, func(op buckettest.Op) buckettest.Fault {
		if s := readStatus(t, c); len(s.Data.Running) > 0 && s.Data.Running[0].Kind == "merge" && during.Data.Running == nil {
			during = s
		}
		return buckettest.Fault{}
	})
	c = newCompactor(t, bucket.Bucket(faulty))
	require.Empty(t, readStatus(t, c).Data.Running)
	require.NoError(t, c.RunOnce(t.Context()))
	require.NotEmpty(t, during.Data.Running)
	require.NotEmpty(t, during.Data.Running[0].Started)
	require.Contains(t, during.Data.Running[0].Group, `{cluster="eu"}`)
	require.Greater(t, len(during.Data.Running[0].Blocks), 1)
	require.Positive(t, during.Data.Running[0].Samples)
	require.Positive(t, during.Data.Todo["merge"])
	require.NotEmpty(t, during.Data.Jobs[0].Reason)
	require.Empty(t, readStatus(t, c).Data.Running, "all jobs have ended")
}

func TestStatus_LeavesOutEndedJobs(t *testing.T) {
	b := blocktest.Bucket(t, twoHours(6, "a", `{cluster="eu"}`)+twoHours(6, "b", `{cluster="us"}`))
	var c *compact.Compactor
	var first, second status
	faulty := buckettest.NewFaulty(b, func(buckettest.Op) buckettest.Fault {
		if s := readStatus(t, c); len(s.Data.Running) == 1 && s.Data.Todo["merge"] == 2 {
			if first.Data.Running == nil {
				first = s
			} else if s.Data.Running[0].Group != first.Data.Running[0].Group {
				second = s
			}
		}
		return buckettest.Fault{}
	})
	c = newCompactor(t, bucket.Bucket(faulty), "--compact.concurrency=1")
	require.NoError(t, c.RunOnce(t.Context()))
	require.Len(t, first.Data.Jobs, 2)
	require.Len(t, second.Data.Running, 1)
	require.Len(t, second.Data.Jobs, 1)
	require.Equal(t, second.Data.Running[0].Group, second.Data.Jobs[0].Group)
}

type backlogStatus struct {
	Data struct {
		Running []struct {
			Kind        string
			Percent     *float64
			SamplesRead *int
		}
		Skipped   []struct{ Block, Reason string }
		BadBlocks []struct {
			Block, Group, Reason, Details string
			Since                         time.Time
			RetryAt                       *time.Time
			Quarantined                   bool
		}
		Backlog struct {
			Blocks, Samples, GroupsTotal int
			Merge                        struct{ Jobs, Blocks, Samples int }
			Groups                       []struct {
				Group           string
				Blocks, Samples int
			}
			MergeSamplesPerSecond, Load, EtaSeconds *float64
			KeepsUp                                 string
		}
	}
}

func readBacklog(t *testing.T, c *compact.Compactor) (s backlogStatus) {
	t.Helper()
	w := serve(t, c, http.MethodGet, "/api/v1/compact/status", nil)
	require.Equal(t, http.StatusOK, w.Code)
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &s), w.Body.String())
	return s
}

func TestStatus_HasBacklogAndProgress(t *testing.T) {
	b := blocktest.Bucket(t, twoHours(6, "a", `{cluster="eu"}`)+twoHours(6, "b", `{cluster="us"}`))
	change(t, b, blocktest.ID("b000"), block.MetaFile, func([]byte) []byte { return []byte(`{"version":99}`) })
	change(t, b, blocktest.ID("b001"), block.IndexFile, func(data []byte) []byte { data[12] ^= 1; return data })
	read := func(c *compact.Compactor) backlogStatus { return readBacklog(t, c) }
	var c *compact.Compactor
	var uploading backlogStatus
	faulty := buckettest.NewFaulty(b, func(op buckettest.Op) buckettest.Fault {
		if s := read(c); op.Kind == "upload" && len(s.Data.Running) > 0 && s.Data.Running[0].Percent != nil && *s.Data.Running[0].Percent == 100 {
			uploading = s
		}
		return buckettest.Fault{}
	})
	c = newCompactor(t, bucket.Bucket(faulty))
	start := read(c).Data.Backlog
	require.Zero(t, start.Blocks)
	require.Equal(t, "yes", start.KeepsUp, "there is no data yet")
	require.Error(t, c.RunOnce(t.Context()), "a block is damaged")

	require.Equal(t, "merge", uploading.Data.Running[0].Kind)
	require.Positive(t, *uploading.Data.Running[0].SamplesRead)
	l := uploading.Data.Backlog
	require.Equal(t, 2, l.GroupsTotal)
	require.Equal(t, `raw@{cluster="eu"}`, l.Groups[0].Group)
	require.Equal(t, 4, l.Groups[0].Blocks)
	require.Equal(t, l.Samples, l.Groups[0].Samples+l.Groups[1].Samples)
	require.Equal(t, 7, l.Blocks)
	require.Equal(t, 2, l.Merge.Jobs)
	require.NotEmpty(t, l.KeepsUp)

	end := read(c).Data
	require.Positive(t, *end.Backlog.MergeSamplesPerSecond)
	require.Len(t, end.BadBlocks, 2)
	reasons := map[string]string{}
	for _, b := range end.BadBlocks {
		reasons[b.Block] = b.Reason
		require.NotEmpty(t, b.Details)
		require.False(t, b.Since.IsZero())
		require.Equal(t, b.Reason == "index_corrupt", b.Quarantined)
		require.Equal(t, b.Quarantined, b.RetryAt != nil)
		if b.Quarantined {
			require.Equal(t, 15*time.Minute, b.RetryAt.Sub(b.Since))
		}
		require.Equal(t, b.Quarantined, b.Group != "", "a meta.json that cannot be read has no labels")
	}
	require.Equal(t, map[string]string{blocktest.ID("b000").String(): "meta_version", blocktest.ID("b001").String(): "index_corrupt"}, reasons)
}

// slowBucket needs time for what it stores.
type slowBucket struct{ bucket.Bucket }

func (b slowBucket) Upload(ctx context.Context, name string, r io.Reader, size int64) error {
	time.Sleep(1500 * time.Millisecond)
	return b.Bucket.Upload(ctx, name, r, size)
}

// The bar is drawn while a pass runs, and erased at its end.
func TestRun_DrawsProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := blocktest.Bucket(t, twoHours(6, "a", `{cluster="eu"}`))
		var out strings.Builder
		c, err := compact.New(config(t), compact.Deps{Bucket: slowBucket{b}, Terminal: &out})
		require.NoError(t, err)
		require.NoError(t, c.Run(t.Context()))
		lines := strings.Split(out.String(), "\r")
		require.Contains(t, out.String(), "reading the bucket")
		require.Regexp(t, `\[#+\.*\] +\d+%  1 jobs run, .+ left`, out.String())
		require.Equal(t, "\x1b[K", lines[len(lines)-1])
		for _, l := range lines {
			require.Less(t, len(l), 80)
		}
	})
}
