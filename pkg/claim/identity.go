package claim

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/hindsight-io/hindsight/pkg/vfs"
)

// identity is what a source remembers of itself in its data directory.
type identity struct {
	Version  int               `json:"version"`
	Instance string            `json:"instance"`
	Labels   map[string]string `json:"labels"`
	Since    time.Time         `json:"since"`
	Previous []Previous        `json:"previous,omitempty"`
}

// loadIdentity returns the identity in the file, or a new one if there is none or it is
// malformed.
func loadIdentity(fsys vfs.FS, file string) (identity, error) {
	var id identity
	fresh := identity{Version: version, Instance: ulid.Make().String()}
	info, err := fsys.Stat(file)
	if err == nil && info.Size() > maxSize {
		err = fmt.Errorf("%s has %d bytes", file, info.Size())
	}
	var data []byte
	if err == nil {
		data, err = fsys.ReadFile(file)
	}
	if err == nil {
		err = json.Unmarshal(data, &id)
	}
	if err == nil {
		if _, perr := ulid.ParseStrict(id.Instance); perr != nil || id.Version != version {
			err = fmt.Errorf("%s has version %d and instance %.40q", file, id.Version, id.Instance)
		}
	}
	switch {
	case err == nil:
		return id, nil
	case errors.Is(err, fs.ErrNotExist):
		return fresh, nil
	}
	return fresh, fmt.Errorf("read identity of the source: %w", err)
}

// save writes the identity. After a crash the file has the old or the new content.
func (id *identity) save(fsys vfs.FS, file string) error {
	data, err := json.MarshalIndent(id, "", "  ")
	if err == nil {
		err = fsys.MkdirAll(filepath.Dir(file), 0o777)
	}
	if err == nil {
		err = vfs.RemoveTemp(fsys, filepath.Dir(file), filepath.Base(file))
	}
	if err == nil {
		err = vfs.WriteBytes(fsys, file, 0o644, data)
	}
	if err != nil {
		return fmt.Errorf("write identity of the source: %w", err)
	}
	return nil
}
