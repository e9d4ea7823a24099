package provider

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/hindsight-io/hindsight/pkg/bucket"
)

const (
	// reopenInterval is the least time between two attempts to reopen a bucket.
	reopenInterval = 30 * time.Second
	// uselessInterval is that after an attempt that did not help, while other operations
	// are not refused: then the credentials are good, and one object or kind of operation
	// is forbidden. Each attempt opens a client that stays.
	uselessInterval = time.Hour
)

// reopening is a bucket that is opened again when it refuses the credentials: they may
// have been rotated in the configuration, in a file that the SDK reads when it starts, or
// in the metadata service of the environment. It then tries the operation once more.
type reopening struct {
	open func(ctx context.Context) (bucket.Bucket, error)
	log  *slog.Logger

	mu     sync.Mutex
	cur    bucket.Bucket
	all    []bucket.Bucket // to be closed at the end; readers may still use them
	opened time.Time
	// useless says that the last attempt did not help; worked is when an operation was last
	// not refused.
	useless bool
	worked  time.Time
}

func newReopening(first bucket.Bucket, log *slog.Logger, open func(ctx context.Context) (bucket.Bucket, error)) *reopening {
	return &reopening{open: open, log: log, cur: first, all: []bucket.Bucket{first}}
}

func (r *reopening) current() bucket.Bucket {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.cur
}

// renewed returns a bucket that was opened after old. It opens one when the last attempt
// is reopenInterval ago, and none for other callers meanwhile.
func (r *reopening) renewed(ctx context.Context, old bucket.Bucket) (bucket.Bucket, bool) {
	r.mu.Lock()
	if r.cur != old {
		defer r.mu.Unlock()
		return r.cur, true
	}
	wait := reopenInterval
	if r.useless && time.Since(r.worked) < reopenInterval {
		wait = uselessInterval
	}
	if !r.opened.IsZero() && time.Since(r.opened) < wait {
		r.mu.Unlock()
		return nil, false
	}
	r.opened = time.Now()
	r.mu.Unlock()

	b, err := r.open(ctx)
	if err != nil {
		r.log.Warn("reopening of object storage failed", "err", err)
		return nil, false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cur, r.all = b, append(r.all, b)
	return b, true
}

// untrusted says whether err is of a server certificate that is not trusted: the bundle
// of authorities may have been rotated since it was read.
func untrusted(err error) bool {
	var cert *tls.CertificateVerificationError
	return errors.As(err, &cert) || err != nil && strings.Contains(err.Error(), "x509: ")
}

// do calls f on the current bucket, and again on a new one if that refuses.
func (r *reopening) do(ctx context.Context, f func(bucket.Bucket) error) error {
	b := r.current()
	err := f(b)
	if !refused(err) {
		r.succeeded(err)
		return err
	}
	b, ok := r.renewed(ctx, b)
	if !ok {
		return err
	}
	err = f(b)
	r.mu.Lock()
	helped := !refused(err)
	again := r.useless
	r.useless = !helped
	r.mu.Unlock()
	switch {
	case helped:
		r.succeeded(err)
		r.log.Info("object storage reopened", "bucket", b.Name())
	case !again:
		r.log.Warn("object storage refuses an operation, also with credentials that were read again", "bucket", b.Name(), "err", err)
	}
	return err
}

// refused says whether new credentials may help.
func refused(err error) bool { return errors.Is(err, bucket.ErrAccessDenied) || untrusted(err) }

// succeeded notes an operation that the bucket carried out.
func (r *reopening) succeeded(err error) {
	if err != nil && !errors.Is(err, bucket.ErrNotFound) {
		return
	}
	r.mu.Lock()
	r.worked = time.Now()
	r.mu.Unlock()
}

func (r *reopening) List(ctx context.Context, dir string, f func(bucket.Object) error) error {
	seen := ""
	return r.do(ctx, func(b bucket.Bucket) error {
		return b.List(ctx, dir, func(o bucket.Object) error {
			if o.Name <= seen {
				return nil
			}
			seen = o.Name
			return f(o)
		})
	})
}

func (r *reopening) Get(ctx context.Context, name string) (rc io.ReadCloser, err error) {
	err = r.do(ctx, func(b bucket.Bucket) (err error) {
		rc, err = b.Get(ctx, name)
		return err
	})
	return rc, err
}

func (r *reopening) GetRange(ctx context.Context, name string, off, length int64) (rc io.ReadCloser, err error) {
	err = r.do(ctx, func(b bucket.Bucket) (err error) {
		rc, err = b.GetRange(ctx, name, off, length)
		return err
	})
	return rc, err
}

func (r *reopening) Stat(ctx context.Context, name string) (o bucket.Object, err error) {
	err = r.do(ctx, func(b bucket.Bucket) (err error) {
		o, err = b.Stat(ctx, name)
		return err
	})
	return o, err
}

// Upload is repeated only if body can seek.
func (r *reopening) Upload(ctx context.Context, name string, body io.Reader, size int64) error {
	var from int64 = -1
	seeker, ok := body.(io.Seeker)
	if ok {
		if pos, err := seeker.Seek(0, io.SeekCurrent); err == nil {
			from = pos
		}
	}
	first := true
	var failure error
	return r.do(ctx, func(b bucket.Bucket) error {
		if !first {
			if from < 0 {
				return failure
			}
			if _, err := seeker.Seek(from, io.SeekStart); err != nil {
				return errors.Join(failure, err)
			}
		}
		first = false
		failure = b.Upload(ctx, name, body, size)
		return failure
	})
}

// GetVersion implements bucket.Conditional.
func (r *reopening) GetVersion(ctx context.Context, name string, limit int64) (data []byte, v bucket.Version, err error) {
	err = r.do(ctx, func(b bucket.Bucket) (err error) {
		data, v, err = bucket.Conditions(b).GetVersion(ctx, name, limit)
		return err
	})
	return data, v, err
}

// PutIf implements bucket.Conditional.
func (r *reopening) PutIf(ctx context.Context, name string, data []byte, old bucket.Version) (v bucket.Version, err error) {
	err = r.do(ctx, func(b bucket.Bucket) (err error) {
		v, err = bucket.Conditions(b).PutIf(ctx, name, data, old)
		return err
	})
	return v, err
}

func (r *reopening) Delete(ctx context.Context, name string) error {
	return r.do(ctx, func(b bucket.Bucket) error { return b.Delete(ctx, name) })
}

func (r *reopening) Name() string { return r.current().Name() }

func (r *reopening) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var errs []error
	for _, b := range r.all {
		errs = append(errs, b.Close())
	}
	return errors.Join(errs...)
}
