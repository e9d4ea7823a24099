package provider

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"

	"cloud.google.com/go/storage"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/thanos-io/objstore"
	"github.com/thanos-io/objstore/providers/azure"
	"github.com/thanos-io/objstore/providers/gcs"
	"github.com/thanos-io/objstore/providers/s3"

	"github.com/hindsight-io/hindsight/pkg/bucket"
)

// adapter is a bucket of objstore as a bucket.Bucket.
type adapter struct {
	next  objstore.Bucket
	name  string
	times bool
	// condition returns a context whose writes are made under the conditions of the
	// header. It is nil when the provider has none, or when gcs has them.
	condition func(ctx context.Context, h http.Header) context.Context
	gcs       *storage.BucketHandle
}

// adapt returns b as a bucket.Bucket with its errors mapped and the lengths of
// all bodies verified. name goes into logs.
func adapt(b objstore.Bucket, name string) bucket.Bucket {
	a := &adapter{
		next:  b,
		name:  name,
		times: slices.Contains(b.SupportedIterOptions(), objstore.UpdatedAt),
	}
	switch p := b.(type) {
	case *s3.Bucket:
		a.condition = withCondition
	case *azure.Bucket:
		a.condition = policy.WithHTTPHeader
	case *gcs.Bucket:
		a.gcs = p.Handle()
	}
	return a
}

// mapErr wraps err with the error of package bucket that it corresponds to, found by
// the code or HTTP status of the provider.
func (a *adapter) mapErr(ctx context.Context, s *statusRecorder, op, name string, err error) error {
	if err == nil {
		return nil
	}
	wrap := func(kind error) error { return fmt.Errorf("%s %s: %w: %w", op, name, kind, err) }
	switch status := s.last.Load(); {
	case ctx.Err() != nil:
		return fmt.Errorf("%s %s: %w", op, name, context.Cause(ctx))
	case s3Kind(err) != nil:
		return wrap(s3Kind(err))
	case status == http.StatusInsufficientStorage:
		return wrap(bucket.ErrFull)
	case status == http.StatusRequestedRangeNotSatisfiable:
		return wrap(bucket.ErrRange)
	case a.next.IsObjNotFoundErr(err):
		return wrap(bucket.ErrNotFound)
	case a.next.IsAccessDeniedErr(err), status == http.StatusUnauthorized, status == http.StatusForbidden:
		return wrap(bucket.ErrAccessDenied)
	case op == "list" && status == http.StatusNotFound:
		return wrap(bucket.ErrNoBucket)
	case status >= 400 && status < 500 && !slices.Contains([]int64{
		http.StatusRequestTimeout, http.StatusConflict, http.StatusTooEarly, http.StatusTooManyRequests,
	}, status):
		return wrap(bucket.ErrPermanent)
	}
	return fmt.Errorf("%s %s: %w", op, name, err)
}

// List cancels its own context when it returns, because some SDKs list in a
// goroutine that would otherwise block for ever.
func (a *adapter) List(ctx context.Context, dir string, f func(bucket.Object) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if dir != "" {
		dir = strings.TrimSuffix(dir, "/") + "/"
	}
	sctx, s := withStatus(ctx)
	lctx, cancel := context.WithCancel(sctx)
	defer cancel()
	opts := []objstore.IterOption{objstore.WithRecursiveIter()}
	if a.times {
		opts = append(opts, objstore.WithUpdatedAt())
	}
	var ferr error
	err := a.next.IterWithAttributes(lctx, dir, func(o objstore.IterObjectAttributes) error {
		if !strings.HasPrefix(o.Name, dir) {
			return nil // a provider that lists by prefix of characters
		}
		obj := bucket.Object{Name: o.Name, Size: -1}
		obj.LastModified, _ = o.LastModified()
		ferr = f(obj)
		return ferr
	}, opts...)
	if ferr != nil {
		return ferr
	}
	return a.mapErr(ctx, s, "list", a.name+"/"+dir, err)
}

func (a *adapter) Get(ctx context.Context, name string) (io.ReadCloser, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	sctx, s := withStatus(ctx)
	rc, err := a.next.Get(sctx, name)
	if errors.Is(err, io.EOF) && s.last.Load() == http.StatusOK {
		// The S3 client reads ahead and reports the end of an empty object as an
		// error.
		if o, serr := a.Stat(ctx, name); serr == nil && o.Size == 0 {
			return io.NopCloser(strings.NewReader("")), nil
		}
	}
	if err != nil {
		return nil, a.mapErr(ctx, s, "get", name, err)
	}
	size, err := objstore.TryToGetSize(rc)
	if err != nil {
		size = -1
	}
	return bucket.ExactReader(ctx, &mappedBody{ReadCloser: rc, a: a, ctx: ctx, status: s, name: name}, name, size), nil
}

func (a *adapter) GetRange(ctx context.Context, name string, off, length int64) (io.ReadCloser, error) {
	if off < 0 || length < 0 {
		return nil, fmt.Errorf("range %d+%d of %s: %w: negative", off, length, name, bucket.ErrPermanent)
	}
	if length == 0 {
		// Ranges of HTTP cannot be empty.
		_, err := a.Stat(ctx, name)
		return io.NopCloser(strings.NewReader("")), err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	sctx, s := withStatus(ctx)
	rc, err := a.next.GetRange(sctx, name, off, length)
	if err != nil {
		return nil, a.mapErr(ctx, s, "get range of", name, err)
	}
	return bucket.ExactReader(ctx, &mappedBody{ReadCloser: rc, a: a, ctx: ctx, status: s, name: name}, name, length), nil
}

// mappedBody maps the errors of providers that ask for the object only when
// the first byte is read.
type mappedBody struct {
	io.ReadCloser
	a      *adapter
	ctx    context.Context
	status *statusRecorder
	name   string
}

func (b *mappedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = b.a.mapErr(b.ctx, b.status, "read", b.name, err)
	}
	return n, err
}

func (a *adapter) Stat(ctx context.Context, name string) (bucket.Object, error) {
	if err := ctx.Err(); err != nil {
		return bucket.Object{}, err
	}
	sctx, s := withStatus(ctx)
	o, err := a.next.Attributes(sctx, name)
	if err != nil {
		return bucket.Object{}, a.mapErr(ctx, s, "stat", name, err)
	}
	return bucket.Object{Name: name, Size: o.Size, LastModified: o.LastModified}, nil
}

// sized is a reader of a known size, by which several providers of objstore choose how
// to upload.
type sized struct {
	io.Reader
	size int64
}

func (s sized) ObjectSize() (int64, error) { return s.size, nil }

// knowsSize says whether objstore can find the size of r by itself. SDKs upload such a
// reader, above all a file, in parallel parts.
func knowsSize(r io.Reader, size int64) bool {
	switch f := r.(type) {
	case *os.File:
		info, err := f.Stat()
		if err != nil || info.Size() != size {
			return false
		}
		pos, err := f.Seek(0, io.SeekCurrent)
		return err == nil && pos == 0
	case *bytes.Reader:
		return int64(f.Len()) == size
	}
	return false
}

func (a *adapter) Upload(ctx context.Context, name string, r io.Reader, size int64) error {
	if err := errors.Join(ctx.Err(), bucket.CheckName(name)); err != nil {
		return err
	}
	sctx, s := withStatus(ctx)
	if size >= 0 && !knowsSize(r, size) {
		r = sized{Reader: bucket.ExactReader(ctx, io.NopCloser(r), name, size), size: size}
	}
	return a.mapErr(ctx, s, "upload", name, a.next.Upload(sctx, name, r))
}

func (a *adapter) Delete(ctx context.Context, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	sctx, s := withStatus(ctx)
	err := a.mapErr(ctx, s, "delete", name, a.next.Delete(sctx, name))
	if errors.Is(err, bucket.ErrNotFound) {
		return nil
	}
	return err
}

func (a *adapter) Name() string { return a.name }

func (a *adapter) Close() error { return a.next.Close() }
