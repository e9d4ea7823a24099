package shipper

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/oklog/ulid/v2"

	"github.com/hindsight-io/hindsight/pkg/vfs"
)

const stateVersion = 1

// maxState bounds the size of a state file that is read, in bytes.
const maxState = 64 << 20

// state is the content of the state file: the blocks of the directory that are
// in the bucket. Prometheus reads it too, to delay compactions.
type state struct {
	Version  int         `json:"version"`
	Uploaded []ulid.ULID `json:"uploaded"`
}

// readState reads a state file.
func readState(fsys vfs.FS, name string) (state, error) {
	info, err := fsys.Stat(name)
	if err != nil {
		return state{}, fmt.Errorf("read state of shipper: %w", err)
	}
	if info.Size() > maxState {
		return state{}, fmt.Errorf("read state of shipper: %s has %d bytes, more than %d", name, info.Size(), maxState)
	}
	data, err := fsys.ReadFile(name)
	if err != nil {
		return state{}, fmt.Errorf("read state of shipper: %w", err)
	}
	return decodeState(data)
}

func decodeState(data []byte) (state, error) {
	var st state
	if err := json.Unmarshal(data, &st); err != nil {
		return state{}, fmt.Errorf("decode state of shipper: %w", err)
	}
	if st.Version != stateVersion {
		return state{}, fmt.Errorf("decode state of shipper: its version is %d; this program knows %d", st.Version, stateVersion)
	}
	return st, nil
}

// writeState replaces the file, if its content changes. After a crash it has the
// old or the new content.
func writeState(fsys vfs.FS, name string, st state) error {
	data, err := json.MarshalIndent(st, "", "\t")
	if err != nil {
		return fmt.Errorf("encode state of shipper: %w", err)
	}
	data = append(data, '\n')
	if old, err := fsys.ReadFile(name); err == nil && bytes.Equal(old, data) {
		return nil
	}
	if err := vfs.WriteBytes(fsys, name, 0o644, data); err != nil {
		return fmt.Errorf("write state of shipper: %w", err)
	}
	return nil
}
