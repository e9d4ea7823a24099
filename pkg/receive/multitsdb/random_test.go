package multitsdb

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/receive/multitsdb/lifecycle"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/vfs"
)

var errFlaky = errors.New("flaky file system")

// flaky is a file system on which some operations fail: those that opening,
// closing and removing a tenant begin with.
type flaky struct {
	vfs.FS
	on atomic.Bool
}

func (f *flaky) fail() error {
	if f.on.Load() && rand.IntN(8) == 0 {
		return errFlaky
	}
	return nil
}

func (f *flaky) MkdirAll(name string, perm fs.FileMode) error {
	if err := f.fail(); err != nil {
		return err
	}
	return f.FS.MkdirAll(name, perm)
}

func (f *flaky) Rename(from, to string) error {
	if err := f.fail(); err != nil {
		return err
	}
	return f.FS.Rename(from, to)
}

func (f *flaky) RemoveAll(name string) error {
	if err := f.fail(); err != nil {
		return err
	}
	return f.FS.RemoveAll(name)
}

// senders keep what they know: the samples that were acknowledged, by tenant.
type senders struct {
	mu    sync.Mutex
	acked map[string]map[string]bool
}

func (m *senders) ack(id, sample string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.acked[id] == nil {
		m.acked[id] = map[string]bool{}
	}
	m.acked[id][sample] = true
}

func (m *senders) all(id string) (out []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for s := range m.acked[id] {
		out = append(out, s)
	}
	return out
}

// randomized drives one DB with random events. The tenant "short" has a retention,
// and is removed again and again; all others keep their samples for ever.
type randomized struct {
	t       *testing.T
	d       *DB
	senders senders
	next    atomic.Int64
	start   int64
}

// bad reports an error that is not the file system's, nor that of a tenant whose
// opening or closing took too many attempts.
func (r *randomized) bad(op string, err error) {
	if err != nil && !errors.Is(err, errFlaky) && !errors.Is(err, errClosed) {
		r.t.Errorf("%s: %v", op, err)
	}
}

func (r *randomized) write(id string) {
	n := r.next.Add(1)
	name := fmt.Sprint("x", n)
	err := write(r.t, r.d, id, float(name, r.start+n, 1))
	if err == nil {
		r.senders.ack(id, name)
	}
	r.bad("write", err)
}

// query asks for all samples of a tenant: those that were acknowledged before are
// there, unless the answer has an error.
func (r *randomized) query(id string) {
	if lacks := r.lacks(id, r.senders.all(id)); lacks != "" {
		r.t.Errorf("tenant %s: sample %s was acknowledged and is not in the answer", id, lacks)
	}
}

// lacks returns one of the wanted samples that an answer lacks, if any.
func (r *randomized) lacks(id string, want []string) string {
	got, err := r.names(id)
	r.bad("query", err)
	if err != nil || id == "short" {
		return ""
	}
	for _, name := range want {
		if !got[name] {
			return name
		}
	}
	return ""
}

func (r *randomized) names(id string) (map[string]bool, error) {
	out := map[string]bool{}
	set := r.d.storeOf(id).Select(r.t.Context(), &storeapi.Request{
		MinTime: math.MinInt64, MaxTime: math.MaxInt64, Matchers: []*labels.Matcher{labels.MustNewMatcher(labels.MatchRegexp, "__name__", ".+")},
	})
	for set.Next() {
		out[strings.Clone(set.At().Labels.Get("__name__"))] = true
	}
	return out, errors.Join(set.Err(), set.Close())
}

// twice is a query that needs the tenant once more before it lets go of it.
func (r *randomized) twice(id string) {
	first, err := onDemand{r.d, id}.ChunkQuerier(math.MinInt64, math.MaxInt64)
	r.bad("first querier", err)
	if err != nil {
		return
	}
	second, err := onDemand{r.d, id}.ChunkQuerier(math.MinInt64, math.MaxInt64)
	r.bad("second querier", err)
	if err == nil {
		r.bad("close", second.Close())
	}
	r.bad("close", first.Close())
}

// maintain is the maintenance, at a time at which every tenant is idle, and "short"
// is past its retention.
func (r *randomized) maintain(now time.Time) {
	for _, v := range r.d.views() {
		if v.tenant == nil {
			r.bad("maintain", r.d.maintainIdle(v, now))
		} else {
			r.bad("maintain", r.d.maintainTenant(r.t.Context(), v.tenant, now))
		}
	}
}

// step does one random operation.
func (r *randomized) step() {
	id := []string{"a", "b", "short"}[rand.IntN(3)]
	switch rand.IntN(12) {
	case 0, 1, 2, 3:
		r.write(id)
	case 4, 5:
		r.query(id)
	case 6:
		r.twice(id)
	case 7:
		r.bad("flush", r.d.Flush(r.t.Context(), id))
	case 8, 9:
		r.maintain(time.Now().Add(48 * time.Hour))
	case 10:
		r.d.overdue()
		_, _, _ = r.d.Stats(), r.d.Unshipped(), r.d.Stores()
	case 11:
		r.bad("metadata", r.d.SetMetadata(id, metadataOf(r.t, "x", "help")))
	}
}

// Random writes, queries, flushes, closings, removals and failures of the file
// system at once, of three tenants.
func TestDB_KeepsAcknowledgedSamplesThroughRandomEvents(t *testing.T) {
	dir, disk := t.TempDir(), &flaky{FS: vfs.OS()}
	config := func(c *Config) {
		c.FS, c.OutOfOrderWindow = disk, 24*time.Hour
		c.TenantRetention = func(id string) (time.Duration, bool) { return 24 * time.Hour, id == "short" }
	}
	d := openDB(t, dir, config)
	disk.on.Store(true)
	r := &randomized{t: t, d: d, senders: senders{acked: map[string]map[string]bool{}}, start: time.Now().Add(-time.Hour).UnixMilli()}
	steps := 80
	if testing.Short() {
		steps = 25
	}
	var workers sync.WaitGroup
	for range 8 {
		workers.Go(func() {
			for range steps {
				r.step()
			}
		})
	}
	workers.Wait()
	disk.on.Store(false)
	r.check("at the end")
	require.NoError(t, d.Close(t.Context()))
	require.Empty(t, d.Stats())

	r.d = openDB(t, dir, config)
	r.check("after a restart")
	for _, v := range r.d.views() {
		require.Equal(t, lifecycle.Open, v.life.State)
	}
}

// check expects exactly the acknowledged samples, of "short" some of them.
func (r *randomized) check(when string) {
	r.d.overdue()
	for _, id := range []string{"a", "b", "short"} {
		got, err := r.names(id)
		require.NoError(r.t, err, when)
		want := r.senders.all(id)
		for _, name := range want {
			if id != "short" {
				require.True(r.t, got[name], "tenant %s, sample %s, %s", id, name, when)
			}
			delete(got, name)
		}
		require.Empty(r.t, got, "tenant %s has samples that were never acknowledged, %s", id, when)
	}
	require.NotEmpty(r.t, r.senders.all("a"))
}
