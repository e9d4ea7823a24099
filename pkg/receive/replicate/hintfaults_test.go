package replicate

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/vfs"
	"github.com/hindsight-io/hindsight/pkg/vfs/faultfs"
)

func numbered(i int) Part {
	return Part{Tenant: "t", Replica: 1, Regions: [][]byte{fmt.Appendf(nil, "hint-%d", i)}}
}

// requireKept checks that the log in dir has each acknowledged hint, in order and
// once, and that it takes new ones.
func requireKept(t *testing.T, dir string, acknowledged []string) {
	t.Helper()
	l, err := openHintLog(vfs.OS(), dir, "p:1", 1<<20)
	require.NoError(t, err)
	_, err = l.append(numbered(1000))
	require.NoError(t, err)
	got := readHints(t, l)
	require.Equal(t, "t 1 hint-1000", got[len(got)-1])
	next := 0
	for _, h := range got {
		if next < len(acknowledged) && h == acknowledged[next] {
			next++
		}
	}
	require.Equal(t, len(acknowledged), next, "acknowledged %v, in the log %v", acknowledged, got)
	require.NoError(t, l.close())
}

func TestHintLog_KeepsAcknowledgedHintsAfterEachFailure(t *testing.T) {
	faultfs.EachFailure(t, func(t *testing.T, fsys *faultfs.FS) {
		dir := filepath.Join(t.TempDir(), "tsdb")
		l, err := openHintLog(fsys, dir, "p:1", 1<<20)
		if err != nil {
			require.ErrorIs(t, err, faultfs.ErrInjected)
			require.ErrorContains(t, err, "create the directory of the hint log of peer p:1")
			return
		}
		var acknowledged []string
		for i := range 9 {
			_, err := l.append(numbered(i))
			if err == nil {
				acknowledged = append(acknowledged, fmt.Sprintf("t 1 hint-%d", i))
			} else {
				require.ErrorIs(t, err, faultfs.ErrInjected)
				require.ErrorContains(t, err, "segment of the hint log")
			}
			if i%3 == 2 {
				require.NoError(t, l.close()) // the next hint begins a segment
			}
		}
		require.NoError(t, l.close())
		requireKept(t, dir, acknowledged)
	})
}

// A segment that was delivered but cannot be deleted is delivered again: the peer
// keeps one copy of each sample.
func TestHintLog_KeepsUndeliveredHintsAfterEachFailure(t *testing.T) {
	faultfs.EachFailure(t, func(t *testing.T, fsys *faultfs.FS) {
		dir := t.TempDir()
		before, err := openHintLog(vfs.OS(), dir, "p:1", 1<<20)
		require.NoError(t, err)
		var undelivered []string
		for i := range 3 {
			_, err := before.append(numbered(i))
			require.NoError(t, err)
			require.NoError(t, before.close())
			undelivered = append(undelivered, fmt.Sprintf("t 1 hint-%d", i))
		}
		l, err := openHintLog(fsys, dir, "p:1", 1<<20)
		if err != nil {
			require.ErrorIs(t, err, faultfs.ErrInjected)
			requireKept(t, dir, undelivered)
			return
		}
		for range 2 {
			r, err := l.take(l.last())
			require.NoError(t, err)
			h, err := r.next()
			require.NoError(t, err)
			require.Equal(t, undelivered[0], fmt.Sprintf("t 1 %s", h.series))
			require.NoError(t, r.close())
			if err := l.done(r.number); err != nil {
				require.ErrorIs(t, err, faultfs.ErrInjected)
				require.ErrorContains(t, err, "delete a segment of the hint log")
			}
			undelivered = undelivered[1:]
		}
		require.NoError(t, l.close())
		requireKept(t, dir, undelivered)
	})
}

func TestAdoptHints_LosesNothingAfterEachFailure(t *testing.T) {
	peers := []string{"p:1", "q:1"}
	faultfs.EachFailure(t, func(t *testing.T, fsys *faultfs.FS) {
		dir := t.TempDir()
		old := filepath.Join(dir, ".hints")
		var want []string
		for _, peer := range peers {
			perPeer := filepath.Join(old, url.PathEscape(peer))
			require.NoError(t, os.MkdirAll(perPeer, 0o750))
			for i := range 3 {
				l, err := openHintLog(vfs.OS(), dir, "source", 1<<20)
				require.NoError(t, err)
				_, err = l.append(Part{Tenant: peer, Regions: [][]byte{fmt.Appendf(nil, "hint-%d", i)}})
				require.NoError(t, err)
				require.NoError(t, l.close())
				require.NoError(t, os.Rename(l.path(l.current), filepath.Join(perPeer, fmt.Sprintf("%016d.hint", i+1))))
				want = append(want, fmt.Sprintf("%s 0 hint-%d", peer, i))
			}
		}
		if err := AdoptHints(fsys, old, dir); err != nil {
			require.ErrorIs(t, err, faultfs.ErrInjected)
			require.ErrorContains(t, err, dir)
		}
		require.NoError(t, AdoptHints(vfs.OS(), old, dir), "the next start")
		require.NoDirExists(t, old)
		var got []string
		for _, peer := range peers {
			l, err := openHintLog(vfs.OS(), dir, peer, 1<<20)
			require.NoError(t, err)
			got = append(got, readHints(t, l)...)
		}
		require.Equal(t, want, got)
	})
}

func TestRemoveHints_ReportsEachFailure(t *testing.T) {
	faultfs.EachFailure(t, func(t *testing.T, fsys *faultfs.FS) {
		dir := t.TempDir()
		for _, peer := range []string{"gone:1", "stays:1"} {
			l, err := openHintLog(vfs.OS(), dir, peer, 1<<20)
			require.NoError(t, err)
			_, err = l.append(numbered(0))
			require.NoError(t, err)
			require.NoError(t, l.close())
		}
		removed, err := removeHints(fsys, dir, func(peer string) bool { return peer == "stays:1" })
		if err != nil {
			require.ErrorIs(t, err, faultfs.ErrInjected)
			require.ErrorContains(t, err, "hints-gone")
		}
		require.Equal(t, []string{"gone:1"}, removed)
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.True(t, slices.ContainsFunc(entries, func(e os.DirEntry) bool { return e.Name() == hintName("stays:1", 1) }))
	})
}
