package receive

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"

	"github.com/hindsight-io/hindsight/pkg/receive/remotewrite"
)

// The memory of requests under way has two bounds of the same size: one for
// received bodies, one for decoded requests. A request that waits for the second
// holds some of the first, never the other way round, so there is no deadlock.

// pool is memory that is taken piece by piece, for a body whose size is not known
// before it has been read. Taking fails instead of waiting, as requests that wait
// for each other would deadlock.
type pool interface {
	TryAcquire(n int64) bool
	Release(n int64)
}

// bodies is the memory for bodies. A tenant can take a share of it at most, so that
// senders that never finish cannot use all of it.
type bodies struct {
	most, mostOfOne int64

	mu   sync.Mutex
	held int64
	of   map[string]int64
}

// newBodies bounds bodies to most bytes together. largest is the largest body of
// all.
func newBodies(most, largest int64) *bodies {
	return &bodies{most: most, mostOfOne: max(most/4, min(largest, most)), of: map[string]int64{}}
}

// tenantBodies is the pool of one tenant.
type tenantBodies struct {
	*bodies
	tenant string
}

// TryAcquire implements pool.
func (b tenantBodies) TryAcquire(n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.held+n > b.most || b.of[b.tenant]+n > b.mostOfOne {
		return false
	}
	b.held += n
	b.of[b.tenant] += n
	return true
}

// Release implements pool.
func (b tenantBodies) Release(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held -= n
	if b.of[b.tenant] -= n; b.of[b.tenant] == 0 {
		delete(b.of, b.tenant)
	}
}

// reserve waits for a share of the memory for decoded requests.
func (r *Receive) reserve(ctx context.Context, n int64) (*share, error) {
	n = min(n, r.cfg.MaxInflightBytes.Int64()) // a larger request waits for all of it
	if err := r.memory.Acquire(ctx, n); err != nil {
		return nil, remotewrite.Errorf(remotewrite.Unavailable, "the sender closed its request while it waited for memory: %w", err)
	}
	return &share{total: r.memory, times: 1, held: n}, nil
}

// share is the memory of one request in a pool.
type share struct {
	total pool
	// times is the number of bytes that are taken for each byte.
	times int64
	// most is the size of the pool, or 0: a request that needs more will never fit, and
	// must not be sent again.
	most int64
	held int64
}

func (s *share) grow(n int64) error { return s.take(n * s.times) }

// reach takes what is missing for n bytes, which are not multiplied.
func (s *share) reach(n int64) error {
	if n <= s.held {
		return nil
	}
	return s.take(n - s.held)
}

func (s *share) take(n int64) error {
	if s.most > 0 && s.held+n > s.most {
		return &remotewrite.TooLargeError{Size: s.held + n, Limit: s.most, What: "the decoded request"}
	}
	if !s.total.TryAcquire(n) {
		return remotewrite.Errorf(remotewrite.Unavailable, "the requests under way use all of their memory (--remote-write.max-inflight-size)")
	}
	s.held += n
	return nil
}

// shrink releases all but n bytes.
func (s *share) shrink(n int64) {
	if beyond := s.held - n*s.times; beyond > 0 {
		s.total.Release(beyond)
		s.held -= beyond
	}
}

// free releases the share. A nil share is empty.
func (s *share) free() {
	if s != nil {
		s.shrink(0)
	}
}

// body is a received body.
type body struct {
	*remotewrite.Buffer
	share
}

// Release frees the memory.
func (b *body) Release() {
	b.Buffer.Release()
	b.free()
}

// readBody reads the body into pooled memory, which grows with the bytes that are
// received, not with the announced length.
func (r *Receive) readBody(req *http.Request, id string) (*body, error) {
	const first = 256 << 10
	limit := r.requestLimit(id)
	if req.ContentLength > limit {
		return nil, &remotewrite.TooLargeError{Size: req.ContentLength, Limit: limit, What: "the body"}
	}
	b := &body{share: share{total: tenantBodies{r.bodies, id}, times: 1, most: r.bodies.mostOfOne}}
	b.Buffer = remotewrite.NewBuffer(int(min(max(req.ContentLength, 0)+512, first)))
	if err := readWithin(b.Buffer, req.Body, limit, &b.share); err != nil {
		b.Release()
		var tooLarge *remotewrite.TooLargeError
		if errors.As(err, &tooLarge) {
			tooLarge.What = "the body"
		}
		return nil, err
	}
	return b, nil
}

// readWithin reads at most limit bytes, for which it takes memory as it goes.
func readWithin(buf *remotewrite.Buffer, src io.Reader, limit int64, memory *share) error {
	for counted := 0; ; {
		if len(buf.B) == cap(buf.B) {
			buf.Grow(len(buf.B))
		}
		if counted < cap(buf.B) {
			if err := memory.grow(int64(cap(buf.B) - counted)); err != nil {
				return err
			}
			counted = cap(buf.B)
		}
		n, err := src.Read(buf.B[len(buf.B):cap(buf.B)])
		buf.B = buf.B[:len(buf.B)+n]
		switch {
		case int64(len(buf.B)) > limit:
			return &remotewrite.TooLargeError{Size: int64(len(buf.B)), Limit: limit, What: "the decompressed body"}
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return remotewrite.Errorf(remotewrite.Invalid, "read the body: %w", err)
		}
	}
}
