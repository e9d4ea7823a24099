package pagecache

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/limit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a bucket with one object of random bytes, and a cache over it.
type rig struct {
	*Cache
	o     Object
	data  []byte
	reads atomic.Int64
}

type countingReader struct {
	bucket.Reader
	r *rig
}

func (c countingReader) GetRange(ctx context.Context, name string, off, length int64) (io.ReadCloser, error) {
	c.r.reads.Add(1)
	return c.Reader.GetRange(ctx, name, off, length)
}

func newRig(t testing.TB, size int, cfg Config) *rig {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, 2))
	r := &rig{data: make([]byte, size)}
	for i := range r.data {
		r.data[i] = byte(rng.Uint32())
	}
	bkt := bucket.NewMemory()
	r.o = Object{Block: ulid.MustNew(1, nil), File: 1, Name: "block/chunks/000001", Size: int64(size)}
	require.NoError(t, bkt.Upload(t.Context(), r.o.Name, bytes.NewReader(r.data), int64(size)))
	cfg.Concurrency, cfg.MaxRead = 4, 64*pageSize
	c, err := New(countingReader{bkt, r}, cfg, nil)
	require.NoError(t, err)
	r.Cache = c
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return r
}

// check reads random ranges and compares.
func (r *rig) check(t *testing.T, rng *rand.Rand) Counts {
	t.Helper()
	acct := &Account{Budget: NewBudget("", 0)}
	p := r.Open(r.o, acct)
	var ranges []Range
	for range 1 + rng.IntN(5) {
		off := rng.Int64N(r.o.Size)
		ranges = append(ranges, Range{Off: off, End: off + rng.Int64N(min(r.o.Size-off, 5*pageSize)+1)})
	}
	counts, err := p.Load(t.Context(), ranges)
	require.NoError(t, err)
	for _, rg := range ranges {
		b, err := p.Bytes(rg)
		require.NoError(t, err)
		require.True(t, bytes.Equal(r.data[rg.Off:rg.End], b))
	}
	p.Recycle()
	require.Zero(t, acct.Budget.Used())
	return counts
}

func TestPages_ReadRandomRanges(t *testing.T) {
	for _, cfg := range []Config{
		{},
		{RequestCost: 5 * pageSize, MemoryBytes: 10 * pageSize},
		{MemoryBytes: 1 << 30},
		{DiskBytes: 5 * (pageSize + diskEntrySize), DiskDir: t.TempDir()},
		{DiskBytes: 1 << 24, DiskDir: t.TempDir()},
	} {
		for _, size := range []int{1, pageSize - 1, pageSize, 10*pageSize + 17} {
			r := newRig(t, size, cfg)
			rng := rand.New(rand.NewPCG(3, 4))
			for i := range 300 {
				if i%7 == 0 {
					off := rng.Int64N(r.o.Size)
					_, err := r.Prefetch(t.Context(), r.o, []Range{{Off: off, End: off + rng.Int64N(r.o.Size-off)}})
					require.NoError(t, err)
				}
				r.check(t, rng)
			}
			r.Forget(r.o.Block)
			require.NoError(t, r.Close())
		}
	}
}

func TestPages_ReadInParallel(t *testing.T) {
	r := newRig(t, 40*pageSize+5, Config{MemoryBytes: 8 * pageSize, DiskBytes: 9 * (pageSize + diskEntrySize), DiskDir: t.TempDir()})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(5, uint64(i)))
			for range 200 {
				r.check(t, rng)
			}
		})
	}
	wg.Wait()
}

// slowReader blocks reads until a test releases them.
type slowReader struct {
	bucket.Reader
	ready chan struct{}
}

func (s slowReader) GetRange(ctx context.Context, name string, off, length int64) (io.ReadCloser, error) {
	select {
	case <-s.ready:
		return s.Reader.GetRange(ctx, name, off, length)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// The first of ten readers of one range is cancelled while the bucket is slow.
func TestPages_ConcurrentReadersShareReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3*pageSize, Config{})
		slow := slowReader{Reader: r.bkt, ready: make(chan struct{})}
		r.bkt = slow
		load := func(ctx context.Context) error {
			p := r.Open(r.o, &Account{})
			_, err := p.Load(ctx, []Range{{Off: 5, End: 2 * pageSize}})
			if err != nil {
				return err
			}
			b, err := p.Bytes(Range{Off: 5, End: 2 * pageSize})
			if err == nil && !bytes.Equal(b, r.data[5:2*pageSize]) {
				err = errors.New("wrong bytes")
			}
			return err
		}
		ctx, cancel := context.WithCancel(t.Context())
		first := make(chan error, 1)
		go func() { first <- load(ctx) }()
		synctest.Wait()
		require.Len(t, r.flights.m, 2)
		others := make(chan error, 9)
		for range 9 {
			go func() { others <- load(t.Context()) }()
		}
		synctest.Wait()
		cancel()
		require.ErrorIs(t, <-first, context.Canceled)
		synctest.Wait()
		require.Len(t, r.flights.m, 2, "another reader reads the pages")
		close(slow.ready)
		for range 9 {
			require.NoError(t, <-others)
		}
		require.LessOrEqual(t, r.reads.Load(), int64(9))
		require.Empty(t, r.flights.m)
	})
}

func TestPrefetch_LeavesNoRequestToLoad(t *testing.T) {
	for _, cfg := range []Config{
		{MemoryBytes: 1 << 20},
		{DiskBytes: 1 << 20, DiskDir: t.TempDir()},
	} {
		r := newRig(t, 40*pageSize+5, cfg)
		ranges := []Range{{Off: 3, End: 9 * pageSize}, {Off: 30 * pageSize, End: r.o.Size}}
		require.False(t, r.Cached(r.o, ranges))
		counts, err := r.Prefetch(t.Context(), r.o, ranges)
		require.NoError(t, err)
		require.Equal(t, int64(2), counts.Requests)
		require.True(t, r.Cached(r.o, ranges))
		p := r.Open(r.o, &Account{})
		counts, err = p.Load(t.Context(), ranges)
		require.NoError(t, err)
		require.Zero(t, counts.Requests)
		for _, rg := range ranges {
			b, err := p.Bytes(rg)
			require.NoError(t, err)
			require.True(t, bytes.Equal(r.data[rg.Off:rg.End], b))
		}
		p.Recycle()
		require.Equal(t, int64(2), r.reads.Load())
	}
}

// ignorant is a server that ignores the range of a request and sends more.
type ignorant struct {
	bucket.Reader
	bad atomic.Bool
}

func (i *ignorant) GetRange(ctx context.Context, name string, off, length int64) (io.ReadCloser, error) {
	if !i.bad.Load() {
		return i.Reader.GetRange(ctx, name, off, length)
	}
	rc, err := i.Reader.Get(ctx, name)
	if err != nil {
		return nil, err
	}
	return bucket.ExactReader(ctx, rc, name, length), nil
}

func TestLoad_KeepsNothingOfServerThatIgnoresRanges(t *testing.T) {
	for _, cfg := range []Config{
		{MemoryBytes: 1 << 30},
		{DiskBytes: 1 << 24, DiskDir: t.TempDir()},
	} {
		r := newRig(t, 100*pageSize, cfg)
		bkt := &ignorant{Reader: r.bkt}
		bkt.bad.Store(true)
		r.bkt = bkt
		p := r.Open(r.o, &Account{})
		rg := Range{Off: 20 * pageSize, End: 80 * pageSize}
		_, err := p.Load(t.Context(), []Range{rg})
		require.ErrorIs(t, err, bucket.ErrLength)
		bkt.bad.Store(false)
		_, err = p.Load(t.Context(), []Range{rg})
		require.NoError(t, err)
		b, err := p.Bytes(rg)
		require.NoError(t, err)
		require.True(t, bytes.Equal(r.data[rg.Off:rg.End], b))
		p.Release()
	}
}

func TestLoad_RefusesRangesOutsideObject(t *testing.T) {
	r := newRig(t, 100, Config{})
	p := r.Open(r.o, &Account{})
	for _, rg := range []Range{{Off: -1, End: 5}, {Off: 0, End: 101}, {Off: 200, End: 300}} {
		_, err := p.Load(t.Context(), []Range{rg})
		var bounds *BoundsError
		require.ErrorAs(t, err, &bounds)
	}
	_, err := p.Bytes(Range{Off: 0, End: 5})
	require.ErrorContains(t, err, "BUG")

	p = r.Open(r.o, &Account{MaxBytes: 10, BytesFlag: "--bytes"})
	_, err = p.Load(t.Context(), []Range{{Off: 0, End: 5}})
	require.ErrorIs(t, err, limit.ErrExceeded)
	require.ErrorContains(t, err, "--bytes allows 10")
	p.Release()

	b := NewBudget("--budget", 10)
	p = r.Open(r.o, &Account{Budget: b})
	_, err = p.Load(t.Context(), []Range{{Off: 0, End: 5}})
	require.ErrorIs(t, err, limit.ErrExceeded)
	p.Release()
	require.Zero(t, b.Used())
}

// TestDisk_SurvivesRestartAndDamage opens the files again, also after they were damaged in every
// part.
func TestDisk_SurvivesRestartAndDamage(t *testing.T) {
	dir := t.TempDir()
	cfg := Config{DiskBytes: 64 * (pageSize + diskEntrySize), DiskDir: dir}
	r := newRig(t, 20*pageSize+3, cfg)
	all := []Range{{Off: 0, End: r.o.Size}}
	load := func(c *Cache) Counts {
		p := c.Open(r.o, &Account{})
		counts, err := p.Load(t.Context(), all)
		require.NoError(t, err)
		b, err := p.Bytes(all[0])
		require.NoError(t, err)
		require.True(t, bytes.Equal(r.data, b))
		return counts
	}
	require.Equal(t, int64(1), load(r.Cache).Requests)
	require.Zero(t, load(r.Cache).Requests)
	_, err := New(r.bkt, r.cfg, nil)
	require.Error(t, err, "in use")
	require.NoError(t, r.Close())

	again := func() Counts {
		c, err := New(r.bkt, r.cfg, nil)
		require.NoError(t, err)
		defer func() { require.NoError(t, c.Close()) }()
		return load(c)
	}
	require.Zero(t, again().Requests)

	file := filepath.Join(dir, diskFile)
	orig, err := os.ReadFile(file)
	require.NoError(t, err)
	rng := rand.New(rand.NewPCG(7, 8))
	for range 200 {
		b := bytes.Clone(orig)
		for range 1 + rng.IntN(20) {
			b[rng.IntN(len(b))] ^= 0x55
		}
		if rng.IntN(10) == 0 {
			b = b[:rng.IntN(len(b))]
		}
		require.NoError(t, os.WriteFile(file, b, 0o666))
		c, err := New(r.bkt, r.cfg, nil)
		require.NoError(t, err)
		load(c)
		require.NoError(t, c.Close())
	}
}

// TestDisk_FullDiskCostsNoAnswer writes to a file that accepts no bytes.
func TestDisk_FullDiskCostsNoAnswer(t *testing.T) {
	r := newRig(t, 5*pageSize, Config{DiskBytes: 1 << 20, DiskDir: t.TempDir()})
	ro, err := os.Open(filepath.Join(r.cfg.DiskDir, diskFile))
	require.NoError(t, err)
	require.NoError(t, r.disk.f.Close())
	r.disk.f = ro
	rng := rand.New(rand.NewPCG(9, 9))
	for range 20 {
		r.check(t, rng)
	}
	require.Positive(t, r.disk.failed.Load())
	require.Zero(t, r.disk.pages())
}

func TestLoad_FailedReadIsRepeated(t *testing.T) {
	down := errors.New("down")
	c, err := New(failing{err: down}, Config{Concurrency: 1, MaxRead: pageSize}, nil)
	require.NoError(t, err)
	p := c.Open(Object{Name: "x", Size: 100}, &Account{})
	_, err = p.Load(t.Context(), []Range{{Off: 0, End: 100}})
	require.ErrorIs(t, err, down)
	require.ErrorContains(t, err, "read 100 bytes of x at 0")
}

type failing struct {
	bucket.Reader
	err error
}

func (f failing) GetRange(context.Context, string, int64, int64) (io.ReadCloser, error) {
	return nil, f.err
}
