package e2e

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/test/e2e/harness"
)

// soakCompactors runs a test for HINDSIGHT_SOAK_MINUTES with one seed after the other, from
// HINDSIGHT_SOAK_SEED on.
func soakCompactors(t *testing.T, run func(t *testing.T, s *faultSite, seed uint64)) {
	minutes, err := strconv.Atoi(os.Getenv("HINDSIGHT_SOAK_MINUTES"))
	if err != nil {
		t.Skip("HINDSIGHT_SOAK_MINUTES is not set")
	}
	seed, _ := strconv.ParseUint(os.Getenv("HINDSIGHT_SOAK_SEED"), 10, 64)
	s := newFaultSite(t)
	for end := time.Now().Add(time.Duration(minutes) * time.Minute); time.Now().Before(end); seed++ {
		if !t.Run(fmt.Sprint("seed-", seed), func(t *testing.T) { run(t, s, seed) }) {
			return
		}
	}
}

// killAt kills the process of a compactor at its n-th write of an object of a block: before the
// server gets the request, after it carried it out, or so that it comes after the death.
func (f *faultBucket) killAt(name string, n int, p *harness.Process) {
	var writes atomic.Int64
	at := func(r *s3Request) bool { return r.write() && r.ofBlock() && writes.Add(1) == int64(n) }
	proxy := f.proxy(name)
	proxy.mu.Lock()
	defer proxy.mu.Unlock()
	proxy.hold, proxy.after = nil, nil
	switch n % 3 {
	case 0:
		proxy.hold = func(r *s3Request) {
			if at(r) {
				p.Kill()
				panic(http.ErrAbortHandler)
			}
		}
	case 1:
		proxy.after = func(r *s3Request) {
			if at(r) {
				p.Kill()
			}
		}
	case 2:
		proxy.hold = func(r *s3Request) {
			if at(r) {
				p.Kill()
			}
		}
	}
}

// kills runs compactors, each of whose lives ends one write later than the one before, until
// one lives as long as it wants. It returns how many there were.
func (f *faultBucket) kills(names ...string) (lives int) {
	f.t.Helper()
	next := map[string]int{}
	begin := func(name string) {
		p := f.start(name)
		next[name]++
		lives++
		f.killAt(name, next[name], p)
	}
	for _, name := range names {
		begin(name)
	}
	f.await(f.site.want, func() string {
		return ""
	}, func() {
		for _, name := range names {
			if !f.procs[name].Running() {
				begin(name)
			}
		}
	})
	for _, name := range names {
		proxy := f.proxy(name)
		proxy.mu.Lock()
		proxy.hold, proxy.after = nil, nil
		proxy.mu.Unlock()
		if !f.procs[name].Running() {
			f.start(name)
		}
	}
	return lives
}

// kill -9 of one and of two compactors at each of their writes, with the clock of the bucket an
// hour ahead of theirs.
func TestCompactFaults_Kills(t *testing.T) {
	t.Parallel()
	s := newFaultSite(t)
	f := s.bucket(t, "killed", time.Hour)
	lives := f.kills("1", "2")
	f.finish(anyOrphan)
	require.Greater(t, lives, 8)
	t.Logf("%d lives, %v", lives, f.watch.counts)
}

// Kills of one compactor, and of three at random times.
func TestCompactFaults_SoakKills(t *testing.T) {
	soakCompactors(t, func(t *testing.T, s *faultSite, seed uint64) {
		f := s.bucket(t, fmt.Sprint("killed-", seed))
		f.kills("1")
		f.finish(anyOrphan)

		f = s.bucket(t, fmt.Sprint("killed-at-random-", seed), -time.Hour)
		r := rand.New(rand.NewPCG(seed, 1))
		names := []string{"1", "2", "3"}
		for range 12 {
			for _, name := range names {
				if f.procs[name] == nil || !f.procs[name].Running() {
					f.start(name)
				}
			}
			time.Sleep(time.Duration(r.IntN(700)) * time.Millisecond)
			f.procs[names[r.IntN(3)]].Kill()
		}
		for _, name := range names {
			if !f.procs[name].Running() {
				f.start(name)
			}
		}
		f.finish(anyOrphan)
	})
}

// stopAt stops a compactor while one of its writes is on the way. Another one takes over, and
// does all the work. Then the write arrives, and the first compactor goes on.
func (s *faultSite) stopAt(t *testing.T, name string, shift time.Duration, at func(*s3Request) bool) {
	f := s.bucket(t, name, shift)
	first, stopped, goOn := make(chan *harness.Process, 1), make(chan struct{}), make(chan struct{})
	var once atomic.Bool
	f.proxy("1").hold = func(r *s3Request) {
		if at(r) && once.CompareAndSwap(false, true) {
			(<-first).Signal(syscall.SIGSTOP)
			close(stopped)
			<-goOn
		}
	}
	p := f.start("1")
	first <- p
	t.Cleanup(func() { p.Signal(syscall.SIGCONT) })
	select {
	case <-stopped:
	case <-time.After(time.Minute):
		require.Fail(t, "there was no such write", p.Tail(20))
	}
	f.start("2")
	f.await(s.want, func() string { return f.busy("2") })
	close(goOn)
	time.Sleep(300 * time.Millisecond) // the write arrives while its sender is still stopped
	p.Signal(syscall.SIGCONT)
	f.finish(anyOrphan)
	t.Logf("%v", f.watch.counts)
}

// lateWrites are the writes of a compactor that may arrive when another one has taken over.
func lateWrites() map[string]func(*s3Request) bool {
	is := func(method, base string) func(*s3Request) bool {
		return func(r *s3Request) bool { return r.Method == method && r.ofBlock() && path.Base(r.key) == base }
	}
	return map[string]func(*s3Request) bool{
		"publication":      is(http.MethodPut, block.MetaFile),
		"index":            is(http.MethodPut, block.IndexFile),
		"mark":             is(http.MethodPut, block.DeletionMarkFile),
		"deletion":         is(http.MethodDelete, block.MetaFile),
		"deletion-of-mark": is(http.MethodDelete, block.DeletionMarkFile),
		"lease":            func(r *s3Request) bool { return r.write() && strings.HasPrefix(r.key, "hindsight/leases/") },
	}
}

// An owner is paused for longer than its lease while a write of it is on the way.
func TestCompactFaults_PausedOwner(t *testing.T) {
	t.Parallel()
	s := newFaultSite(t)
	s.stopAt(t, "late-publication", -time.Hour, lateWrites()["publication"])
}

// The same with each other write.
func TestCompactFaults_SoakPausedOwner(t *testing.T) {
	soakCompactors(t, func(t *testing.T, s *faultSite, seed uint64) {
		for name, at := range lateWrites() {
			n := int(seed % 8) // an undisturbed compactor makes eight blocks
			s.stopAt(t, fmt.Sprint("late-", name, "-", seed), 0, func(r *s3Request) bool {
				if !at(r) {
					return false
				}
				n--
				return n < 0
			})
		}
	})
}

// The disk of a compactor is full from a moment on at which it is at work, and later has space
// again.
func TestCompactFaults_DiskFull(t *testing.T) {
	t.Parallel()
	disk := filepath.Join(t.TempDir(), "disk")
	smallDisk(t, disk, "1m")
	s := newFaultSite(t)
	f := s.bucket(t, "disk")
	var once atomic.Bool
	atWork, full := make(chan struct{}), make(chan struct{})
	filler := filepath.Join(disk, "filler")
	f.proxy("1").hold = func(r *s3Request) {
		if r.Method == http.MethodGet && r.ofBlock() && path.Base(r.key) == block.IndexFile && once.CompareAndSwap(false, true) {
			close(atWork)
			<-full
		}
	}
	p := f.start("1", "--data-dir="+filepath.Join(disk, "data"))
	select {
	case <-atWork:
	case <-time.After(time.Minute):
		require.Fail(t, "no index was read", p.Tail(20))
	}
	fillDisk(t, filler)
	close(full)
	eventually(t, time.Minute, func() error {
		if !strings.Contains(p.Output(), "no space left on device") {
			return fmt.Errorf("no job has failed: %s", p.Tail(5))
		}
		return nil
	})
	contentOf(t, f.dir, nil)
	require.True(t, p.Running())
	require.NoError(t, os.Remove(filler))
	f.finish(nil)
	require.NotContains(t, p.Output(), "quarantine", "the blocks are sound")
}
