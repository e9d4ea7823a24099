package compact_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/aggr"
	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/bucket/buckettest"
	"github.com/hindsight-io/hindsight/pkg/compact"
)

// runCounted runs a compactor once and returns the number of its downsampling jobs.
func runCounted(t testing.TB, b bucket.Bucket, args ...string) int {
	t.Helper()
	reg := prometheus.NewRegistry()
	c, err := compact.New(config(t, args...), compact.Deps{Bucket: b, Logger: slog.New(slog.DiscardHandler), Registerer: reg})
	require.NoError(t, err)
	require.NoError(t, c.RunOnce(context.Background()))
	families, err := reg.Gather()
	require.NoError(t, err)
	n := 0
	for _, f := range families {
		if f.GetName() != "hindsight_compact_jobs_completed_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetValue() == "downsample" {
					n += int(m.GetCounter().GetValue())
				}
			}
		}
	}
	return n
}

// blockFiles has the files of the live blocks by their range, resolution and name. In
// meta.json it replaces ids of results and times of this run.
func blockFiles(t testing.TB, b bucket.Bucket) map[string]string {
	t.Helper()
	out := map[string]string{}
	v := poll(t, b)
	for id, m := range v.Metas {
		if v.Deletion[id] != nil {
			continue
		}
		key := fmt.Sprintf("%d..%d %d %v ", m.MinTime, m.MaxTime, m.Resolution(), m.Thanos.Labels)
		require.NotContains(t, out, key+block.MetaFile)
		for _, f := range m.Thanos.Files {
			if f.RelPath == block.MetaFile {
				continue
			}
			r, err := b.Get(context.Background(), block.Path(id, f.RelPath))
			require.NoError(t, err)
			data, err := io.ReadAll(r)
			require.NoError(t, err)
			require.NoError(t, r.Close())
			out[key+f.RelPath] = string(data)
		}
		m = m.Clone()
		m.ULID, m.Thanos.UploadTime, m.Thanos.Extensions = ulid.ULID{}, time.Time{}, nil // the last has the lease
		for i := range m.Compaction.Parents {
			m.Compaction.Parents[i].ULID = ulid.ULID{}
		}
		data, err := m.Encode()
		require.NoError(t, err)
		out[key+block.MetaFile] = string(data)
	}
	return out
}

// mixedBucket is crashBucket with series that have histograms, stale markers, or nothing
// that could be downsampled.
func mixedBucket() string {
	var s strings.Builder
	for line := range strings.Lines(crashBucket()) {
		s.WriteString(line)
		if name, _, ok := strings.Cut(strings.TrimPrefix(line, "block "), " range="); ok && strings.HasPrefix(line, "block ") {
			n := int(name[2]-'0') * 8
			fmt.Fprintf(&s, "  gone{i=%q} %dh:stale\n", name, n)
		}
	}
	return s.String()
}

// TestMerge_DownsamplesInTheSamePass compares the result with that of two jobs, byte for
// byte. A budget for the disk makes two jobs of one.
func TestMerge_DownsamplesInTheSamePass(t *testing.T) {
	start := blocktest.Bucket(t, mixedBucket())
	one, two := copyBucket(t, start), copyBucket(t, start)
	require.Equal(t, 0, runCounted(t, one, crashFlags...))
	require.Equal(t, 1, runCounted(t, two, append([]string{"--compact.disk-budget=100MB"}, crashFlags...)...))
	require.Contains(t, strings.Join(live(t, one), "\n"), "0..48h res=5")
	got, want := blockFiles(t, one), blockFiles(t, two)
	require.Len(t, got, len(want))
	for name, data := range want {
		require.Contains(t, got, name)
		require.True(t, data == got[name], "%s:\n%.500q\n%.500q", name, got[name], data)
	}
	require.Zero(t, runCounted(t, one, crashFlags...), "nothing is left to do")
}

// TestMerge_SurvivesCrashInSamePass ends the compactor at each upload from that of the
// long block to that of the block that is downsampled in the same pass.
func TestMerge_SurvivesCrashInSamePass(t *testing.T) {
	start := blocktest.Bucket(t, crashBucket())
	undisturbed := copyBucket(t, start)
	faulty := buckettest.NewFaulty(undisturbed, nil)
	require.NoError(t, newCompactor(t, faulty, crashFlags...).RunOnce(context.Background()))
	wantLive, want, names := live(t, undisturbed), content(t, undisturbed), countBlocks(t, undisturbed)
	long := map[string]bool{}
	for id, m := range poll(t, undisturbed).Metas {
		if m.MaxTime-m.MinTime == 48*time.Hour.Milliseconds() {
			long[id.String()] = true
		}
	}
	require.Len(t, long, 2)
	crashes := 0
	for i, op := range faulty.Calls(false) {
		if id, _, _ := strings.Cut(op.Name, "/"); op.Kind != "upload" || !long[id] {
			continue
		}
		crashes++
		crash(t, copyBucket(t, start), i+1, crashes%2 == 0, func(b bucket.Bucket, what string) {
			require.Equal(t, wantLive, live(t, b), what)
			require.Equal(t, want, content(t, b), what)
			require.Equal(t, names, countBlocks(t, b), what)
		})
	}
	require.Equal(t, 6, crashes, "segment, index and meta.json of two blocks")
}

// refusing lets the first upload of a segment with aggregate chunks fail.
type refusing struct {
	bucket.Bucket
	mu      sync.Mutex
	refused int
}

func (r *refusing) Upload(ctx context.Context, name string, body io.Reader, size int64) error {
	data, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	if strings.Contains(name, "/chunks/") && r.refuses(data) {
		return buckettest.ErrInjected
	}
	return r.Bucket.Upload(ctx, name, bytes.NewReader(data), size)
}

func (r *refusing) refuses(segment []byte) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	// The encoding of the first chunk follows the header and its length.
	_, n := binary.Uvarint(segment[chunks.SegmentHeaderSize:])
	if r.refused > 0 || segment[chunks.SegmentHeaderSize+n] != byte(aggr.Encoding) {
		return false
	}
	r.refused++
	return true
}

// TestMerge_FailedSecondBlockIsMadeByItself refuses the upload of the 5m data that a
// merge makes. The merge is carried out, and the same pass downsamples by itself.
func TestMerge_FailedSecondBlockIsMadeByItself(t *testing.T) {
	start := blocktest.Bucket(t, crashBucket())
	undisturbed := copyBucket(t, start)
	require.Zero(t, runCounted(t, undisturbed, crashFlags...))
	b := &refusing{Bucket: copyBucket(t, start)}
	require.Equal(t, 1, runCounted(t, b, crashFlags...))
	require.Equal(t, 1, b.refused)
	require.Equal(t, live(t, undisturbed), live(t, b))
	require.Equal(t, content(t, undisturbed), content(t, b))
	require.Empty(t, poll(t, b).Partial, "its objects are deleted")
}
