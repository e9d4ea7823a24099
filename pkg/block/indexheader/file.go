package indexheader

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/prometheus/prometheus/tsdb/fileutil"
)

// WriteFile writes the header to a file, which appears whole or not at all.
func (h *Header) WriteFile(path string) (err error) {
	dir, base := filepath.Split(path)
	f, err := os.CreateTemp(dir, base+".tmp-*")
	if err != nil {
		return fmt.Errorf("write index header: %w", err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	// Not synced: after a crash a broken file is found out by its checksum.
	_, err = f.Write(h.b)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write index header %s: %w", path, err)
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
	h, err := Parse(m.Bytes())
	if err != nil {
		_ = m.Close()
		return nil, fmt.Errorf("open index header %s: %w", path, err)
	}
	h.close = m.Close
	return h, nil
}
