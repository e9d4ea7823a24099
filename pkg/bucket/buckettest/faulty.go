package buckettest

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/hindsight-io/hindsight/pkg/bucket"
)

// ErrInjected is an error for rules of a Faulty bucket. It counts as temporary.
var ErrInjected = errors.New("injected object storage error")

// Op is one call on a bucket.
type Op struct {
	// Kind is "list", "get", "get_range", "stat", "upload" or "delete".
	Kind string
	// Name of the object or directory.
	Name string
	// N counts the calls of this kind, from 1.
	N int
}

// Fault is the effect on a call; the zero value has none.
type Fault struct {
	// Err fails the call.
	Err error
	// CutAt, when positive, ends the body of a read after that many bytes with
	// Err, or with io.ErrUnexpectedEOF if Err is nil.
	CutAt int64
	// Flip, when positive, inverts one bit of the byte at that position
	// (counted from 1) of the body of a read.
	Flip int64
	// AfterEffect performs the call and then returns Err, as when the answer was lost.
	AfterEffect bool
	// Lost acknowledges an upload or a deletion without doing it.
	Lost bool
	// Short acknowledges an upload of which only the first half is stored.
	Short bool
	// Delay is how long the call waits before it begins. A rule must not wait itself: all
	// calls wait for it.
	Delay time.Duration
}

// Faulty is a bucket whose calls can be made to fail, and which counts them.
type Faulty struct {
	bucket.Bucket
	mu    sync.Mutex
	rule  func(Op) Fault
	count map[string]int
	calls []Op
}

// NewFaulty returns b; rule decides about the fault of each call, and nil has none.
func NewFaulty(b bucket.Bucket, rule func(Op) Fault) *Faulty {
	return &Faulty{Bucket: b, rule: rule, count: map[string]int{}}
}

// SetRule replaces the rule.
func (f *Faulty) SetRule(rule func(Op) Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rule = rule
}

// Calls returns the calls so far, and forgets them if reset.
func (f *Faulty) Calls(reset bool) []Op {
	f.mu.Lock()
	defer f.mu.Unlock()
	calls := f.calls
	if reset {
		f.calls = nil
	}
	return calls
}

// Count returns how many calls of the kind there were since the last reset of
// Calls.
func (f *Faulty) Count(kind string) int {
	n := 0
	for _, op := range f.Calls(false) {
		if op.Kind == kind {
			n++
		}
	}
	return n
}

func (f *Faulty) fault(kind, name string) Fault {
	ft := f.decide(kind, name)
	time.Sleep(ft.Delay)
	return ft
}

func (f *Faulty) decide(kind, name string) Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.count[kind]++
	op := Op{Kind: kind, Name: name, N: f.count[kind]}
	f.calls = append(f.calls, op)
	if f.rule == nil {
		return Fault{}
	}
	return f.rule(op)
}

// List implements bucket.Reader.
func (f *Faulty) List(ctx context.Context, dir string, fn func(bucket.Object) error) error {
	ft := f.fault("list", dir)
	if ft.Err != nil && !ft.AfterEffect {
		return ft.Err
	}
	return errors.Join(f.Bucket.List(ctx, dir, fn), ft.Err)
}

// Get implements bucket.Reader.
func (f *Faulty) Get(ctx context.Context, name string) (io.ReadCloser, error) {
	ft := f.fault("get", name)
	if ft.Err != nil && ft.CutAt == 0 {
		return nil, ft.Err
	}
	rc, err := f.Bucket.Get(ctx, name)
	return ft.body(rc), err
}

// GetRange implements bucket.Reader.
func (f *Faulty) GetRange(ctx context.Context, name string, off, length int64) (io.ReadCloser, error) {
	ft := f.fault("get_range", name)
	if ft.Err != nil && ft.CutAt == 0 {
		return nil, ft.Err
	}
	rc, err := f.Bucket.GetRange(ctx, name, off, length)
	return ft.body(rc), err
}

// Stat implements bucket.Reader.
func (f *Faulty) Stat(ctx context.Context, name string) (bucket.Object, error) {
	if ft := f.fault("stat", name); ft.Err != nil {
		return bucket.Object{}, ft.Err
	}
	return f.Bucket.Stat(ctx, name)
}

// Upload implements bucket.Bucket.
func (f *Faulty) Upload(ctx context.Context, name string, r io.Reader, size int64) error {
	ft := f.fault("upload", name)
	if ft.Err != nil && !ft.AfterEffect {
		return ft.Err
	}
	switch {
	case ft.Lost:
		_, err := io.Copy(io.Discard, r)
		return errors.Join(err, ft.Err)
	case ft.Short && size > 1:
		half := io.LimitReader(r, size/2)
		return errors.Join(f.Bucket.Upload(ctx, name, half, size/2), ft.Err)
	}
	return errors.Join(f.Bucket.Upload(ctx, name, r, size), ft.Err)
}

// GetVersion implements bucket.Conditional; for rules it is a "get".
func (f *Faulty) GetVersion(ctx context.Context, name string, limit int64) ([]byte, bucket.Version, error) {
	if ft := f.fault("get", name); ft.Err != nil {
		return nil, bucket.NoVersion, ft.Err
	}
	return bucket.Conditions(f.Bucket).GetVersion(ctx, name, limit)
}

// PutIf implements bucket.Conditional; for rules it is an "upload".
func (f *Faulty) PutIf(ctx context.Context, name string, data []byte, old bucket.Version) (bucket.Version, error) {
	ft := f.fault("upload", name)
	if ft.Err != nil && !ft.AfterEffect {
		return bucket.NoVersion, ft.Err
	}
	v, err := bucket.Conditions(f.Bucket).PutIf(ctx, name, data, old)
	return v, errors.Join(err, ft.Err)
}

// Delete implements bucket.Bucket.
func (f *Faulty) Delete(ctx context.Context, name string) error {
	ft := f.fault("delete", name)
	if ft.Err != nil && !ft.AfterEffect {
		return ft.Err
	}
	if ft.Lost {
		return ft.Err
	}
	return errors.Join(f.Bucket.Delete(ctx, name), ft.Err)
}

func (ft Fault) body(rc io.ReadCloser) io.ReadCloser {
	if rc == nil || (ft.CutAt == 0 && ft.Flip == 0) {
		return rc
	}
	return &faultyBody{ReadCloser: rc, fault: ft}
}

type faultyBody struct {
	io.ReadCloser
	fault Fault
	n     int64
}

func (b *faultyBody) Read(p []byte) (int, error) {
	if b.fault.CutAt > 0 {
		if b.n >= b.fault.CutAt {
			if b.fault.Err != nil {
				return 0, b.fault.Err
			}
			return 0, io.ErrUnexpectedEOF
		}
		p = p[:min(int64(len(p)), b.fault.CutAt-b.n)]
	}
	n, err := b.ReadCloser.Read(p)
	if at := b.fault.Flip - 1 - b.n; at >= 0 && at < int64(n) {
		p[at] ^= 1
	}
	b.n += int64(n)
	return n, err
}
