package bucket

import (
	"context"
	"io"
	"strings"
)

// Prefix returns the part of b below the directory prefix as a bucket of its
// own; surrounding slashes are ignored, and nothing but slashes returns b.
func Prefix(b Bucket, prefix string) Bucket {
	prefix = strings.Trim(prefix, "/")
	if prefix == "" {
		return b
	}
	return &prefixed{next: b, prefix: prefix + "/"}
}

type prefixed struct {
	next   Bucket
	prefix string
}

func (p *prefixed) List(ctx context.Context, dir string, f func(Object) error) error {
	return p.next.List(ctx, p.prefix+dir, func(o Object) error {
		name, ok := strings.CutPrefix(o.Name, p.prefix)
		if !ok || name == "" {
			return nil
		}
		o.Name = name
		return f(o)
	})
}

func (p *prefixed) Get(ctx context.Context, name string) (io.ReadCloser, error) {
	return p.next.Get(ctx, p.prefix+name)
}

func (p *prefixed) GetRange(ctx context.Context, name string, off, length int64) (io.ReadCloser, error) {
	return p.next.GetRange(ctx, p.prefix+name, off, length)
}

func (p *prefixed) Stat(ctx context.Context, name string) (Object, error) {
	o, err := p.next.Stat(ctx, p.prefix+name)
	o.Name = strings.TrimPrefix(o.Name, p.prefix)
	return o, err
}

func (p *prefixed) Upload(ctx context.Context, name string, r io.Reader, size int64) error {
	if err := CheckName(name); err != nil {
		return err
	}
	return p.next.Upload(ctx, p.prefix+name, r, size)
}

func (p *prefixed) Delete(ctx context.Context, name string) error {
	return p.next.Delete(ctx, p.prefix+name)
}

// GetVersion implements Conditional.
func (p *prefixed) GetVersion(ctx context.Context, name string, limit int64) ([]byte, Version, error) {
	return Conditions(p.next).GetVersion(ctx, p.prefix+name, limit)
}

// PutIf implements Conditional.
func (p *prefixed) PutIf(ctx context.Context, name string, data []byte, old Version) (Version, error) {
	if err := CheckName(name); err != nil {
		return NoVersion, err
	}
	return Conditions(p.next).PutIf(ctx, p.prefix+name, data, old)
}

func (p *prefixed) Name() string { return p.next.Name() + "/" + strings.TrimSuffix(p.prefix, "/") }

func (p *prefixed) Close() error { return p.next.Close() }
