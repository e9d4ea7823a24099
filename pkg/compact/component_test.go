package compact_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/bucket/buckettest"
	"github.com/hindsight-io/hindsight/pkg/compact"
	"github.com/hindsight-io/hindsight/pkg/reason"
	"github.com/hindsight-io/hindsight/pkg/server"
)

var _ server.Component = (*compact.Compactor)(nil)

// waiting runs a compactor with --wait in a bubble of virtual time until the end of
// the test. after returns the number of blocks after a time.
func waiting(t *testing.T, run, b bucket.Bucket) (after func(time.Duration) int) {
	t.Helper()
	c := newCompactor(t, run, "--wait", "--wait-interval=5m", "--compact.cleanup-interval=5m", "--delete-delay=0s")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
	return func(d time.Duration) int {
		time.Sleep(d)
		synctest.Wait()
		return len(poll(t, b).Metas)
	}
}

func TestRun_MakesPassesAtIntervals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := blocktest.Bucket(t, twoHours(6, "a", `{cluster="eu"}`))
		after := waiting(t, b, b)
		require.Equal(t, 3, after(time.Minute), "merged, and the sources deleted")
		blocktest.Fill(t, b, `
block z0 range=12h..14h labels={cluster="eu"}
  up{job="x"} 12h..14h/15s:1
block z1 range=14h..16h labels={cluster="eu"}
  up{job="x"} 14h..16h/15s:1
block z2 range=16h..18h labels={cluster="eu"}
  up{job="x"} 16h..18h/15s:1
`)
		require.Equal(t, 3, after(5*time.Minute))
	})
}

func TestRun_ContinuesAfterFailedPasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := blocktest.Bucket(t, twoHours(6, "a", `{cluster="eu"}`))
		faulty := buckettest.NewFaulty(b, func(buckettest.Op) buckettest.Fault { return buckettest.Fault{Err: buckettest.ErrInjected} })
		after := waiting(t, faulty, b)
		require.Equal(t, 6, after(20*time.Minute))
		require.NotEmpty(t, faulty.Calls(false))
		faulty.SetRule(nil)
		require.Equal(t, 3, after(5*time.Minute))
	})
}

func serve(t *testing.T, c *compact.Compactor, method, target string, form url.Values) *httptest.ResponseRecorder {
	t.Helper()
	mux := http.NewServeMux()
	c.RegisterHTTP(mux)
	req := httptest.NewRequest(method, target, strings.NewReader(form.Encode()))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	rec := httptest.NewRecorder()
	mux.ServeHTTP(rec, req)
	return rec
}

func TestHTTP_ListsAndMarksBlocks(t *testing.T) {
	b := blocktest.Bucket(t, twoHours(6, "a", `{cluster="eu"}`))
	c := newCompactor(t, b, "--bucket-web-label=cluster")
	require.NoError(t, c.RunOnce(context.Background()))
	rec := serve(t, c, "GET", "/api/v1/blocks?view=global", nil)
	require.Equal(t, http.StatusOK, rec.Code)
	var answer struct {
		Status string
		Data   struct {
			Label       string
			Blocks      []block.Meta
			RefreshedAt time.Time
			Err         *string
		}
	}
	require.NoError(t, json.Unmarshal(rec.Body.Bytes(), &answer))
	require.Equal(t, "success", answer.Status)
	require.Equal(t, "cluster", answer.Data.Label)
	require.Len(t, answer.Data.Blocks, 7)
	require.False(t, answer.Data.RefreshedAt.IsZero())

	id := blocktest.ID("a005")
	mark := func(want int, c *compact.Compactor, form url.Values) {
		t.Helper()
		require.Equal(t, want, serve(t, c, "POST", "/api/v1/blocks/mark", form).Code)
	}
	mark(http.StatusBadRequest, c, url.Values{"id": {"../x"}, "action": {"DELETION"}})
	mark(http.StatusBadRequest, c, url.Values{"id": {id.String()}, "action": {"SING"}})
	mark(http.StatusNoContent, c, url.Values{"id": {id.String()}, "action": {"DELETION"}, "detail": {"by hand"}})
	mark(http.StatusNoContent, c, url.Values{"id": {id.String()}, "action": {"NO_COMPACTION"}, "detail": {"why not"}})
	v := poll(t, b)
	require.Equal(t, "by hand", v.Deletion[id].Details)
	require.Equal(t, block.MarkManual, v.NoCompact[id].Reason)
	mark(http.StatusBadRequest, newCompactor(t, b, "--disable-admin-operations"), url.Values{"id": {id.String()}, "action": {"DELETION"}})
}

// One pass downsamples a block out of retention, marks it, and deletes another one.
func TestRunOnce_KeepsRetention(t *testing.T) {
	b := blocktest.Bucket(t, `
block old range=0h..48h labels={cluster="eu"}
  up 0h..48h/5m:1+1
  gone 0h:stale
meta m1 range=48h..50h labels={cluster="eu"}
mark m1 deletion at=1s
`)
	c := newCompactor(t, b, "--retention.resolution-raw=40h")
	require.NoError(t, c.RunOnce(context.Background()))
	require.Equal(t, []string{`0..48h res=5 level=1 samples=576 series=1 {cluster="eu"}`}, live(t, b))
	v := poll(t, b)
	require.Contains(t, v.Deletion, blocktest.ID("old"), "only after its 5m data was there")
	require.NotContains(t, v.Metas, blocktest.ID("m1"))
}

// After the plan was made, a mark is removed and a partial upload is completed: both
// blocks stay.
func TestRunOnce_KeepsBlocksThatChangedSincePlan(t *testing.T) {
	ctx := context.Background()
	b := blocktest.Bucket(t, `
meta m1 range=0h..2h labels={cluster="eu"}
mark m1 deletion at=1s
`)
	late := blocktest.ID("late")
	require.NoError(t, b.Upload(ctx, block.Path(late, block.IndexFile), strings.NewReader("x"), 1))
	var marksRead atomic.Int64
	faulty := buckettest.NewFaulty(&oldBucket{Bucket: b}, func(op buckettest.Op) buckettest.Fault {
		// The first time is the look at the bucket, the second one the deletion.
		if op.Kind == "get" && strings.HasSuffix(op.Name, block.DeletionMarkFile) && marksRead.Add(1) == 2 {
			_ = b.Delete(ctx, block.Path(blocktest.ID("m1"), block.DeletionMarkFile))
		}
		if op.Kind == "stat" && op.Name == block.Path(late, block.MetaFile) {
			m := &block.Meta{}
			m.ULID, m.Version = late, 1
			m.Thanos.Labels = map[string]string{"cluster": "eu"}
			_ = blocktest.PutMeta(ctx, b, m)
		}
		return buckettest.Fault{}
	})
	require.NoError(t, newCompactor(t, faulty).RunOnce(ctx))
	require.Equal(t, int64(2), marksRead.Load())
	v := poll(t, b)
	require.Contains(t, v.Metas, blocktest.ID("m1"))
	require.Contains(t, v.Metas, late)
}

// oldBucket says that all its objects are three days old, but for the clock.
type oldBucket struct{ bucket.Bucket }

func (o *oldBucket) List(ctx context.Context, dir string, f func(bucket.Object) error) error {
	return o.Bucket.List(ctx, dir, func(obj bucket.Object) error {
		obj.LastModified = obj.LastModified.Add(-72 * time.Hour)
		return f(obj)
	})
}

func TestRunOnce_MarksBlockWithNothingToDownsample(t *testing.T) {
	b := blocktest.Bucket(t, `
block old range=0h..48h labels={cluster="eu"}
  up 0h..48h/5m:NaN
`)
	c := newCompactor(t, b)
	require.NoError(t, c.RunOnce(context.Background()))
	require.NoError(t, c.RunOnce(context.Background()))
	v := poll(t, b)
	require.Len(t, v.Metas, 1)
	require.Equal(t, reason.NothingToDownsample.String(), v.NoDownsample[blocktest.ID("old")].Reason)
}

// Two compactors on one bucket take no input from each other, and lose no sample.
func TestRunOnce_TwoCompactorsLoseNothing(t *testing.T) {
	text := crashBucket()
	undisturbed := blocktest.Bucket(t, text)
	require.NoError(t, newCompactor(t, undisturbed, crashFlags...).RunOnce(context.Background()))
	b := blocktest.Bucket(t, text)
	done := make(chan error)
	for range 2 {
		c := newCompactor(t, b, append([]string{"--compact.lease-duration=1s"}, crashFlags...)...)
		go func() { done <- c.RunOnce(context.Background()) }()
	}
	require.NoError(t, <-done)
	require.NoError(t, <-done)
	require.NoError(t, newCompactor(t, b, crashFlags...).RunOnce(context.Background()))
	require.Equal(t, content(t, undisturbed), content(t, b))
	require.Equal(t, live(t, undisturbed), live(t, b))
}

func TestRunOnce_WorksOnSelectedBlocksOnly(t *testing.T) {
	fresh := func() bucket.Bucket {
		return blocktest.Bucket(t, twoHours(6, "a", `{cluster="eu"}`)+twoHours(6, "b", `{cluster="us"}`))
	}
	f := func(want string, args ...string) {
		t.Helper()
		b := fresh()
		require.NoError(t, newCompactor(t, b, append(args, "--compact.concurrency=4")...).RunOnce(context.Background()))
		var merged []string
		for _, line := range live(t, b) {
			if strings.Contains(line, "level=2") {
				merged = append(merged, line[:strings.Index(line, " ")]+line[strings.Index(line, "{"):])
			}
		}
		require.Equal(t, want, strings.Join(merged, " "))
	}
	f(`0..8h{cluster="eu"} 0..8h{cluster="us"}`)
	f(`0..8h{cluster="us"}`, "--selector.relabel-config=[{source_labels: [cluster], regex: us, action: keep}]")
	f(`2..8h{cluster="eu"} 2..8h{cluster="us"}`, "--min-time=1970-01-01T03:00:00Z")
	f("", "--max-time=1969-01-01T00:00:00Z")
}
