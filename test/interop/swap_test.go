package interop

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
)

// A sidecar is swapped in place and back while Prometheus makes blocks: each block is in the
// bucket once, none is uploaded again, and both read the list of the other.
func TestSidecar_ChangesItsProgram(t *testing.T) {
	s := newSite(t)
	bucket := s.bucket("bucket")
	dir := s.mkdir("prometheus")
	prom := s.prometheus("prometheus", "global: {external_labels: {cluster: eu, replica: a}}", "--storage.tsdb.retention.time=1y")
	args := []string{bucket, "--tsdb.path=" + dir, "--prometheus.url=" + prom.url()}
	uploaded := map[string]time.Time{}
	columns := 0
	at := s.address()
	now := epoch()
	for round, p := range []program{thanos, hindsight, thanos, hindsight, hindsight, thanos} {
		for range 2 {
			// A block appears as a whole, as Prometheus makes it.
			made := s.mkdir("made")
			writeBlock(t, made, now, now+2*hour)
			now += 2 * hour
			ids, err := os.ReadDir(made)
			require.NoError(t, err)
			for _, id := range ids {
				if _, err := block.ReadMetaDir(filepath.Join(made, id.Name())); err == nil {
					require.NoError(t, os.Rename(filepath.Join(made, id.Name()), filepath.Join(dir, id.Name())))
				}
			}
		}
		n := s.runAt(at, p, "sidecar", fmt.Sprintf("sidecar-%d", round), args...)
		eventually(t, 60*time.Second, func() error {
			if got := len(metasOf(t, s.path("bucket"))); got != 2*(round+1) {
				return fmt.Errorf("the bucket has %d of %d blocks", got, 2*(round+1))
			}
			return nil
		})
		s.stop(n)
		if p == hindsight {
			columns += 2
		}
		require.Len(t, columnsOf(t, s.path("bucket")), columns, "the blocks that this program has shipped have columns objects")
		var spans []int64
		for _, m := range metasOf(t, s.path("bucket")) {
			id := m.ULID.String()
			if before, ok := uploaded[id]; ok {
				require.Equal(t, before, m.Thanos.UploadTime, "block %s was uploaded again by %s", id, p)
			}
			uploaded[id] = m.Thanos.UploadTime
			require.Equal(t, `{cluster="eu", replica="a"}`, m.ExternalLabels().String())
			spans = append(spans, m.MinTime)
		}
		slices.Sort(spans)
		require.Len(t, slices.Compact(spans), 2*(round+1), "a window is in the bucket twice")
		list, err := os.ReadFile(filepath.Join(dir, "thanos.shipper.json"))
		require.NoError(t, err)
		for id := range uploaded {
			require.Contains(t, string(list), id, "the list that %s left", p)
		}
	}
}

// Replicas that one program merges offline are merged for the other, and marks of one program
// hold for the other.
func TestCompactors_ShareMarksAndDeduplication(t *testing.T) {
	for _, p := range programs() {
		t.Run(string(p), func(t *testing.T) {
			s := newSite(t)
			bucket := s.bucket("bucket")
			local := s.mkdir("local")
			for i := range int64(4) {
				writeBlock(t, local, epoch()+i*2*hour, epoch()+(i+1)*2*hour)
			}
			writeBlock(t, local, epoch()+2*day, epoch()+2*day+2*hour)
			for _, replica := range []string{"a", "b"} {
				s.upload(p, bucket, local, `cluster="eu"`, fmt.Sprintf("replica=%q", replica))
			}
			dedup := []string{"--deduplication.replica-label=replica", "--deduplication.func=penalty"}
			s.compact(p, bucket, "compact", dedup...)
			merged := blocksOf(t, s.path("bucket"))
			require.Len(t, merged, 2, "%v", merged)
			s.compact(p.other(), bucket, "compact-other", dedup...)
			require.Equal(t, merged, blocksOf(t, s.path("bucket")), "the other has nothing to do")
			s.stores(bucket, "bucket")

			// Two further blocks of 2h would be merged but for the mark.
			more := s.mkdir("more")
			for i := range int64(4) {
				writeBlock(t, more, epoch()+4*day+i*2*hour, epoch()+4*day+(i+1)*2*hour)
			}
			writeBlock(t, more, epoch()+6*day, epoch()+6*day+2*hour)
			columns := columnsOf(t, s.path("bucket"))
			s.upload(p, bucket, more, `cluster="us"`, `replica="a"`)
			if p == hindsight {
				require.Len(t, columnsOf(t, s.path("bucket")), len(columns)+5, "Thanos compacts blocks with columns objects below")
			}
			for _, m := range metasOf(t, s.path("bucket")) {
				if m.Thanos.Labels["cluster"] == "us" {
					s.call(p, "tools", "bucket", "mark", bucket, "--id="+m.ULID.String(), "--marker=no-compact-mark.json", "--details=test")
				}
			}
			before := blocksOf(t, s.path("bucket"))
			s.compact(p.other(), bucket, "compact-other")
			require.Equal(t, before, blocksOf(t, s.path("bucket")), "marked blocks stay as they are")
			for _, m := range metasOf(t, s.path("bucket")) {
				if m.Thanos.Labels["cluster"] == "us" {
					s.call(p.other(), "tools", "bucket", "mark", bucket, "--id="+m.ULID.String(), "--marker=no-compact-mark.json", "--remove")
				}
			}
			s.compact(p.other(), bucket, "compact-other")
			require.Len(t, blocksOf(t, s.path("bucket")), len(before)-3)
			for _, m := range metasOf(t, s.path("bucket")) {
				if m.Thanos.Labels["cluster"] == "us" {
					s.call(p, "tools", "bucket", "mark", bucket, "--id="+m.ULID.String(), "--marker=deletion-mark.json", "--details=test")
				}
			}
			time.Sleep(2 * time.Second) // marks count in seconds
			s.compact(p.other(), bucket, "compact-other")
			require.Equal(t, merged, blocksOf(t, s.path("bucket")))
			entries, err := os.ReadDir(s.path("bucket"))
			require.NoError(t, err)
			blocks := 0
			for _, e := range entries {
				if _, ok := block.ParseID(e.Name()); ok && len(filesBelow(t, s.path("bucket", e.Name()))) > 0 {
					blocks++
				}
			}
			require.Equal(t, len(merged), blocks, "blocks that one marks are deleted by the other")
			require.Equal(t, columns, columnsOf(t, s.path("bucket")), "the columns objects are deleted with their blocks")
		})
	}
}

func filesBelow(t *testing.T, dir string) []string { return objectsOf(t, dir) }
