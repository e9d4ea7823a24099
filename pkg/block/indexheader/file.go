package indexheader

import (
	"fmt"

	"github.com/prometheus/prometheus/tsdb/fileutil"

	"github.com/hindsight-io/hindsight/pkg/vfs"
)

// WriteFile writes the header to a file, which appears with all its content or
// not at all. It is not synced: OpenFile detects by the checksum what a crash of
// the machine has damaged.
func (h *Header) WriteFile(fsys vfs.FS, path string) error {
	if err := vfs.WriteBytes(vfs.WithoutSync(fsys), path, 0o666, h.b); err != nil {
		return fmt.Errorf("write index header: %w", err)
	}
	return nil
}

// OpenFile maps a header file into memory and checks it. The error is
// ErrCorrupt when the content is bad, and fs.ErrNotExist when there is none.
func OpenFile(path string) (*Header, error) {
	m, err := fileutil.OpenMmapFile(path)
	if err != nil {
		return nil, fmt.Errorf("open index header %s: %w", path, err)
	}
	h, err := parse(m.Bytes())
	if err != nil {
		_ = m.Close()
		return nil, fmt.Errorf("open index header %s: %w", path, err)
	}
	h.close = m.Close
	return h, nil
}
