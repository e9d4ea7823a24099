package bucket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// RetryConfig configures the retries of operations after temporary errors.
type RetryConfig struct {
	// MinBackoff and MaxBackoff bound the pause between two tries, which
	// doubles from one to the next and is then shortened at random by up to a half, so
	// that many clients do not retry at the same time.
	MinBackoff, MaxBackoff time.Duration
	// MaxTries bounds the number of tries, the first one included.
	MaxTries int
	// Deadline bounds the time in which a new try may begin, counted from the
	// start of the operation.
	Deadline time.Duration
}

// DefaultRetry returns the configuration of all roles.
func DefaultRetry() RetryConfig {
	return RetryConfig{
		MinBackoff: 100 * time.Millisecond,
		MaxBackoff: 5 * time.Second,
		MaxTries:   6,
		Deadline:   time.Minute,
	}
}

// Retry returns b with operations tried again after temporary errors. A
// listing is continued after the last name seen, a range read after the last
// byte read; a whole-object read is tried again only while the caller has got none of
// it, and an upload only if its reader can seek back to where it began.
func Retry(b Bucket, cfg RetryConfig, reg prometheus.Registerer) Bucket {
	r := &retrying{next: b, cfg: cfg, retries: promauto.With(reg).NewCounterVec(prometheus.CounterOpts{
		Name: "hindsight_objstore_retries_total",
		Help: "Retries of operations on the bucket after temporary errors.",
	}, []string{"operation"})}
	for _, op := range []string{opList, opGet, opGetRange, opStat, opUpload, opDelete} {
		r.retries.WithLabelValues(op)
	}
	return r
}

type retrying struct {
	next    Bucket
	cfg     RetryConfig
	retries *prometheus.CounterVec
}

// attempts is the state of one operation.
type attempts struct {
	b     *retrying
	op    string
	start time.Time
	tries int
}

func (b *retrying) begin(op string) *attempts {
	return &attempts{b: b, op: op, start: time.Now(), tries: 1}
}

// again pauses and returns true if the operation should be tried once more after err.
func (a *attempts) again(ctx context.Context, err error) bool {
	if !IsTemporary(err) || a.tries >= a.b.cfg.MaxTries || ctx.Err() != nil {
		return false
	}
	pause := min(a.b.cfg.MinBackoff<<(a.tries-1), a.b.cfg.MaxBackoff)
	pause -= time.Duration(rand.Int64N(int64(pause)/2 + 1))
	if time.Since(a.start)+pause > a.b.cfg.Deadline {
		return false
	}
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
	}
	a.tries++
	a.b.retries.WithLabelValues(a.op).Inc()
	return true
}

// explain returns the error for the caller: of a cancelled context the cancellation,
// whatever the last error was, and otherwise err with the number of tries.
func (a *attempts) explain(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if cerr := ctx.Err(); cerr != nil && !errors.Is(err, cerr) {
		return fmt.Errorf("%w; last error after %d tries: %w", cerr, a.tries, err)
	}
	if a.tries > 1 {
		return fmt.Errorf("after %d tries: %w", a.tries, err)
	}
	return err
}

// List continues after an error by listing again and skipping the objects that f has
// got.
func (b *retrying) List(ctx context.Context, dir string, f func(Object) error) error {
	var last string
	var ferr error
	a := b.begin(opList)
	for {
		err := b.next.List(ctx, dir, func(o Object) error {
			if o.Name <= last {
				return nil
			}
			if ferr = f(o); ferr == nil {
				last = o.Name
			}
			return ferr
		})
		if err == nil || ferr != nil {
			return err
		}
		if !a.again(ctx, err) {
			return a.explain(ctx, err)
		}
	}
}

func (b *retrying) Get(ctx context.Context, name string) (io.ReadCloser, error) {
	a := b.begin(opGet)
	open := func(int64) (io.ReadCloser, error) { return b.next.Get(ctx, name) }
	return b.open(ctx, a, open, false)
}

func (b *retrying) GetRange(ctx context.Context, name string, off, length int64) (io.ReadCloser, error) {
	a := b.begin(opGetRange)
	open := func(n int64) (io.ReadCloser, error) { return b.next.GetRange(ctx, name, off+n, length-n) }
	return b.open(ctx, a, open, true)
}

func (b *retrying) open(ctx context.Context, a *attempts, open func(n int64) (io.ReadCloser, error), resume bool) (io.ReadCloser, error) {
	r := &retryingBody{ctx: ctx, a: a, open: open, resume: resume}
	for {
		rc, err := open(0)
		if err == nil {
			r.rc = rc
			return r, nil
		}
		if !a.again(ctx, err) {
			return nil, a.explain(ctx, err)
		}
	}
}

type retryingBody struct {
	ctx    context.Context
	a      *attempts
	open   func(n int64) (io.ReadCloser, error)
	resume bool
	rc     io.ReadCloser
	n      int64
}

func (r *retryingBody) Read(p []byte) (int, error) {
	n, err := r.rc.Read(p)
	r.n += int64(n)
	if err == nil || errors.Is(err, io.EOF) {
		return n, err
	}
	if n > 0 && r.resume {
		return n, nil // the next Read meets the error again, or the rest
	}
	for (r.resume || r.n == 0) && r.a.again(r.ctx, err) {
		rc, oerr := r.open(r.n)
		if oerr != nil {
			err = oerr
			continue
		}
		_ = r.rc.Close() // it has failed already
		r.rc = rc
		return 0, nil
	}
	return n, r.a.explain(r.ctx, err)
}

func (r *retryingBody) Close() error { return r.rc.Close() }

func (b *retrying) Stat(ctx context.Context, name string) (Object, error) {
	a := b.begin(opStat)
	for {
		o, err := b.next.Stat(ctx, name)
		if err == nil || !a.again(ctx, err) {
			return o, a.explain(ctx, err)
		}
	}
}

func (b *retrying) Upload(ctx context.Context, name string, r io.Reader, size int64) error {
	a := b.begin(opUpload)
	seeker, canSeek := r.(io.Seeker)
	var from int64
	if canSeek {
		var err error
		if from, err = seeker.Seek(0, io.SeekCurrent); err != nil {
			canSeek = false
		}
	}
	for {
		err := b.next.Upload(ctx, name, r, size)
		if err == nil || !canSeek || !a.again(ctx, err) {
			return a.explain(ctx, err)
		}
		if _, serr := seeker.Seek(from, io.SeekStart); serr != nil {
			return fmt.Errorf("seek back to upload %s again after %w: %w", name, err, serr)
		}
	}
}

func (b *retrying) Delete(ctx context.Context, name string) error {
	a := b.begin(opDelete)
	for {
		err := b.next.Delete(ctx, name)
		if err == nil || !a.again(ctx, err) {
			return a.explain(ctx, err)
		}
	}
}

// GetVersion implements Conditional.
func (b *retrying) GetVersion(ctx context.Context, name string, limit int64) ([]byte, Version, error) {
	a := b.begin(opGet)
	for {
		data, v, err := Conditions(b.next).GetVersion(ctx, name, limit)
		if err == nil || !a.again(ctx, err) {
			return data, v, a.explain(ctx, err)
		}
	}
}

// PutIf implements Conditional. When the object has changed it may have been changed by
// this very write: by an earlier try whose answer was lost, here or within the client of
// the provider. So PutIf reads the object, and succeeds if it finds data.
func (b *retrying) PutIf(ctx context.Context, name string, data []byte, old Version) (Version, error) {
	a := b.begin(opUpload)
	for {
		v, err := Conditions(b.next).PutIf(ctx, name, data, old)
		if errors.Is(err, ErrChanged) {
			got, at, rerr := b.GetVersion(ctx, name, int64(len(data)))
			if rerr == nil && bytes.Equal(got, data) {
				return at, nil
			}
			if rerr != nil && IsTemporary(rerr) {
				return NoVersion, fmt.Errorf("find out whether %s was written: %w", name, rerr)
			}
		}
		if err == nil || !a.again(ctx, err) {
			return v, a.explain(ctx, err)
		}
	}
}

func (b *retrying) Name() string { return b.next.Name() }

func (b *retrying) Close() error { return b.next.Close() }
