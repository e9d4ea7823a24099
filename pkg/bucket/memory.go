package bucket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Memory is a bucket in memory. Its listings have sizes and times.
type Memory struct {
	mu      sync.RWMutex
	objects map[string]memoryObject
	version uint64 // the last one given to an object
}

type memoryObject struct {
	data     []byte
	modified time.Time
	version  uint64
}

// NewMemory returns an empty bucket.
func NewMemory() *Memory { return &Memory{objects: map[string]memoryObject{}} }

// List implements Reader on a snapshot of the names.
func (m *Memory) List(ctx context.Context, dir string, f func(Object) error) error {
	prefix := dirPrefix(dir)
	m.mu.RLock()
	var out []Object
	for name, o := range m.objects {
		if strings.HasPrefix(name, prefix) && name != prefix {
			out = append(out, Object{Name: name, Size: int64(len(o.data)), LastModified: o.modified})
		}
	}
	m.mu.RUnlock()

	slices.SortFunc(out, func(a, b Object) int { return strings.Compare(a.Name, b.Name) })
	for _, o := range out {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := f(o); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func dirPrefix(dir string) string {
	if dir == "" {
		return ""
	}
	return strings.TrimSuffix(dir, "/") + "/"
}

func (m *Memory) object(ctx context.Context, name string) (memoryObject, error) {
	if err := ctx.Err(); err != nil {
		return memoryObject{}, err
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	o, ok := m.objects[name]
	if !ok {
		return memoryObject{}, fmt.Errorf("%s: %w", name, ErrNotFound)
	}
	return o, nil
}

// Get implements Reader.
func (m *Memory) Get(ctx context.Context, name string) (io.ReadCloser, error) {
	o, err := m.object(ctx, name)
	if err != nil {
		return nil, err
	}
	return ExactReader(ctx, io.NopCloser(bytes.NewReader(o.data)), name, int64(len(o.data))), nil
}

// GetRange implements Reader.
func (m *Memory) GetRange(ctx context.Context, name string, off, length int64) (io.ReadCloser, error) {
	if off < 0 || length < 0 {
		return nil, fmt.Errorf("range %d+%d of %s: %w: negative", off, length, name, ErrPermanent)
	}
	o, err := m.object(ctx, name)
	if err != nil {
		return nil, err
	}
	if off >= int64(len(o.data)) && length > 0 {
		return nil, fmt.Errorf("range %d+%d of %s: %w", off, length, name, ErrRange)
	}
	part := o.data[min(off, int64(len(o.data))):]
	part = part[:min(length, int64(len(part)))]
	return ExactReader(ctx, io.NopCloser(bytes.NewReader(part)), name, length), nil
}

// Stat implements Reader.
func (m *Memory) Stat(ctx context.Context, name string) (Object, error) {
	o, err := m.object(ctx, name)
	if err != nil {
		return Object{}, err
	}
	return Object{Name: name, Size: int64(len(o.data)), LastModified: o.modified}, nil
}

// Upload implements Bucket.
func (m *Memory) Upload(ctx context.Context, name string, r io.Reader, size int64) error {
	if err := errors.Join(ctx.Err(), CheckName(name)); err != nil {
		return err
	}
	data, err := io.ReadAll(r)
	if err != nil {
		return fmt.Errorf("read the content of %s: %w", name, err)
	}
	if size >= 0 && int64(len(data)) != size {
		return fmt.Errorf("upload %s: %w: %d bytes, announced %d", name, ErrLength, len(data), size)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.put(name, data)
	return nil
}

// put stores an object while the caller holds mu.
func (m *Memory) put(name string, data []byte) Version {
	m.version++
	m.objects[name] = memoryObject{data: data, modified: time.Now(), version: m.version}
	return memoryVersion(m.version)
}

func memoryVersion(n uint64) Version { return Version(strconv.FormatUint(n, 10)) }

// GetVersion implements Conditional.
func (m *Memory) GetVersion(ctx context.Context, name string, limit int64) ([]byte, Version, error) {
	o, err := m.object(ctx, name)
	if err != nil {
		return nil, NoVersion, err
	}
	if int64(len(o.data)) > limit {
		return nil, NoVersion, fmt.Errorf("read %s: %w: more than %d bytes", name, ErrTooLarge, limit)
	}
	return bytes.Clone(o.data), memoryVersion(o.version), nil
}

// PutIf implements Conditional.
func (m *Memory) PutIf(ctx context.Context, name string, data []byte, old Version) (Version, error) {
	if err := errors.Join(ctx.Err(), CheckName(name)); err != nil {
		return NoVersion, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	at := NoVersion
	if o, ok := m.objects[name]; ok {
		at = memoryVersion(o.version)
	}
	if at != old {
		return NoVersion, fmt.Errorf("write %s: %w", name, ErrChanged)
	}
	return m.put(name, bytes.Clone(data)), nil
}

// Delete implements Bucket.
func (m *Memory) Delete(ctx context.Context, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.objects, name)
	return nil
}

// SetModified changes the time that an existing object reports.
func (m *Memory) SetModified(name string, t time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if o, ok := m.objects[name]; ok {
		o.modified = t
		m.objects[name] = o
	}
}

// Name implements Bucket.
func (m *Memory) Name() string { return "memory" }

// Close implements Bucket; the content stays.
func (m *Memory) Close() error { return nil }
