package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
)

// bucketWatch checks the writes to a bucket in the moment in which the server carries them
// out, whoever sends them:
//
//   - a block that becomes visible is complete, and all its checksums are right (I4);
//   - a block is marked for deletion only while another one that is visible, sound and not
//     marked has all its sources and all its time, or it is out of retention (I6);
//   - an object is deleted only if its block has had the mark for the delay, or never became
//     visible and is of the same client (I6).
type bucketWatch struct {
	dir   string // the objects, as files
	delay time.Duration
	// expired says which blocks retention may take; nil takes none.
	expired func(*block.Meta) bool
	// mayClean says which directories without meta.json are old enough; nil none.
	mayClean func(ulid.ULID) bool

	mu      sync.Mutex
	written map[string]time.Time // by object
	owner   map[ulid.ULID]string // of an upload that is not visible yet
	visible map[ulid.ULID]*block.Meta
	marked  map[ulid.ULID]time.Time
	broken  []string
	counts  map[string]int
}

// newWatch watches a bucket whose objects are the files of dir.
func newWatch(t *testing.T, dir string, delay time.Duration) *bucketWatch {
	t.Helper()
	w := &bucketWatch{
		dir: dir, delay: delay, written: map[string]time.Time{}, owner: map[ulid.ULID]string{}, visible: map[ulid.ULID]*block.Meta{},
		marked: map[ulid.ULID]time.Time{}, counts: map[string]int{},
	}
	for _, id := range dirsOf(t, dir) {
		if m, err := block.ReadMetaDir(filepath.Join(dir, id.String())); err == nil {
			w.visible[id] = m
		}
	}
	return w
}

// dirsOf are the directories of blocks, with meta.json or not.
func dirsOf(t *testing.T, dir string) (out []ulid.ULID) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		if id, ok := block.ParseID(e.Name()); ok && e.IsDir() {
			out = append(out, id)
		}
	}
	return out
}

// begin is called before a request is carried out; the result of it afterwards.
func (w *bucketWatch) begin(r *s3Request) (done func(ok bool)) {
	if !r.write() {
		return func(bool) {}
	}
	w.mu.Lock()
	start := time.Now()
	if r.Method == http.MethodDelete {
		w.beforeDelete(r)
	}
	w.mu.Unlock()
	return func(ok bool) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if !ok {
			return
		}
		if r.Method == http.MethodPut {
			w.written[r.key] = time.Now()
			w.put(r, start)
		}
	}
}

func (w *bucketWatch) fail(format string, args ...any) {
	w.broken = append(w.broken, fmt.Sprintf(format, args...))
}

// put is called after an object was written.
func (w *bucketWatch) put(r *s3Request, start time.Time) {
	id, rel, ok := block.ParsePath(r.key)
	if !ok {
		return
	}
	switch rel {
	case block.MetaFile:
		dir := filepath.Join(w.dir, id.String())
		report, err := block.Verify(context.WithoutCancel(r.Context()), dir)
		if err != nil {
			w.fail("I4: %s published %s, which is not sound: %v", r.client, id, err)
			return
		}
		w.visible[id] = report.Meta
		w.counts["published"]++
	case block.DeletionMarkFile:
		if _, again := w.marked[id]; !again {
			w.marked[id] = start
			w.counts["marked"]++
			w.mark(r.client, id)
		}
	default:
		if w.owner[id] == "" {
			w.owner[id] = r.client
		}
	}
}

// mark checks that a block may be marked now.
func (w *bucketWatch) mark(client string, id ulid.ULID) {
	m := w.visible[id]
	if m == nil {
		return // a mark without a block takes nothing away
	}
	if w.expired != nil && w.expired(m) {
		return
	}
	for other, by := range w.visible {
		_, marked := w.marked[other]
		if other != id && !marked && by.Resolution() == m.Resolution() && by.MinTime <= m.MinTime && by.MaxTime >= m.MaxTime && hasAll(by, m) {
			return
		}
	}
	w.fail("I6: %s marked %s (%d to %d, resolution %d), and no other block has its sources", client, id, m.MinTime, m.MaxTime, m.Resolution())
}

func hasAll(m, of *block.Meta) bool {
	for _, s := range of.Compaction.Sources {
		if !slices.Contains(m.Compaction.Sources, s) {
			return false
		}
	}
	return true
}

// beforeDelete checks that an object may be deleted now.
func (w *bucketWatch) beforeDelete(r *s3Request) {
	id, rel, ok := block.ParsePath(r.key)
	if !ok {
		return
	}
	if _, err := os.Stat(filepath.Join(w.dir, filepath.FromSlash(r.key))); err != nil {
		return // no object
	}
	w.counts["deleted"]++
	marked, isMarked := w.marked[id]
	_, wasVisible := w.visible[id]
	switch {
	case isMarked:
		if age := time.Since(marked); age < w.delay {
			w.fail("I6: %s deleted %s %s after its mark, the delay is %s", r.client, r.key, age, w.delay)
		}
	case wasVisible:
		w.fail("I6: %s deleted %s of a block without a mark", r.client, r.key)
	case w.owner[id] != r.client && (w.mayClean == nil || !w.mayClean(id)):
		w.fail("I6: %s deleted %s, which is of an upload of %s", r.client, r.key, w.owner[id])
	}
	_ = rel
}

// hideRecent takes the objects of the last second out of a listing.
func (w *bucketWatch) hideRecent(body []byte) []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	return listedObjects.ReplaceAllFunc(body, func(o []byte) []byte {
		if at, ok := w.written[string(listedKey.FindSubmatch(o)[1])]; ok && time.Since(at) < time.Second {
			return nil
		}
		return o
	})
}

// check fails the test for each write that was wrong.
func (w *bucketWatch) check(t *testing.T) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	require.Empty(t, w.broken)
}
