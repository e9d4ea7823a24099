package shipper

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/oklog/ulid/v2"
)

const stateVersion = 1

// maxState bounds what is read of a state file, in bytes.
const maxState = 64 << 20

// State is the content of the state file: the blocks of the directory that are
// in the bucket. Prometheus reads it too, to delay compactions.
type State struct {
	Version  int         `json:"version"`
	Uploaded []ulid.ULID `json:"uploaded"`
}

// ReadState reads a state file.
func ReadState(path string) (State, error) {
	info, err := os.Stat(path)
	if err != nil {
		return State{}, fmt.Errorf("read state of shipper: %w", err)
	}
	if info.Size() > maxState {
		return State{}, fmt.Errorf("read state of shipper: %s has %d bytes", path, info.Size())
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return State{}, fmt.Errorf("read state of shipper: %w", err)
	}
	return decodeState(data)
}

func decodeState(data []byte) (State, error) {
	var st State
	if err := json.Unmarshal(data, &st); err != nil {
		return State{}, fmt.Errorf("decode state of shipper: %w", err)
	}
	if st.Version != stateVersion {
		return State{}, fmt.Errorf("state of shipper has version %d, known is %d", st.Version, stateVersion)
	}
	return st, nil
}

// writeState replaces the file atomically, if its content changes.
func writeState(path string, st State) (err error) {
	data, err := json.MarshalIndent(st, "", "\t")
	if err != nil {
		return fmt.Errorf("encode state of shipper: %w", err)
	}
	data = append(data, '\n')
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, data) {
		return nil
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".tmp*")
	if err != nil {
		return fmt.Errorf("write state of shipper: %w", err)
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write state of shipper: %w", errors.Join(err, os.Remove(f.Name())))
	}
	return nil
}
