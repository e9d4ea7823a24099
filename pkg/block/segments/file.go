// Package segments reads the chunks of a block through mapped memory, of which it keeps a
// bounded part in the memory of the process.
//
// The pages of a mapped file that were read count as memory of the process until they are
// given back. They are those of the page cache, so the kernel takes them when memory is
// short, but until then a program that reads a block of a gigabyte looks as if it needed one.
package segments

import (
	"github.com/prometheus/prometheus/tsdb/fileutil"
	"golang.org/x/sys/unix"
)

const (
	// window is the most that Linux maps at once when a byte is read: a large page of amd64
	// and arm64, in bytes.
	window = 2 << 20
	// kept is how many bytes of a file stay in memory at most, if a read needs no more.
	kept = 16 << 20
)

// file is a file that is mapped for reading. Its slices are valid until it is closed, also
// those whose pages were given back: they are read again. It is not for concurrent use.
type file struct {
	m *fileutil.MmapFile
	b []byte
	// read has a mark for each window that was read since the last release.
	read []bool
	// count is the number of these marks.
	count int
}

// open maps a file. An empty file cannot be mapped.
func open(path string) (*file, error) {
	m, err := fileutil.OpenMmapFile(path)
	if err != nil {
		return nil, err
	}
	b := m.Bytes()
	return &file{m: m, b: b, read: make([]bool, len(b)/window+1)}, nil
}

// bytes returns the bytes from start up to end, which must lie within the file. It gives
// back the pages of what was read before when they would be more than kept.
func (f *file) bytes(start, end int) []byte {
	for w := start / window; w*window < end; w++ {
		if f.read[w] {
			continue
		}
		if f.count >= kept/window {
			f.release()
		}
		f.read[w] = true
		f.count++
	}
	return f.b[start:end]
}

// release gives all pages back. It is advice: if the kernel does not take it, more stays in
// memory.
func (f *file) release() {
	_ = unix.Madvise(f.b, unix.MADV_DONTNEED)
	clear(f.read)
	f.count = 0
}

func (f *file) close() error { return f.m.Close() }
