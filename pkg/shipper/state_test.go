package shipper

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/vfs"
)

func FuzzState(f *testing.F) {
	f.Add([]byte(`{"version":1,"uploaded":["01ARZ3NDEKTSV4RRFFQ69G5FAV"]}`))
	f.Add([]byte(`{"version":1,"uploaded":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		name := filepath.Join(t.TempDir(), "state")
		require.NoError(t, os.WriteFile(name, data, 0o666))
		st, err := readState(vfs.OS(), name)
		if err != nil {
			return
		}
		_, err = json.Marshal(st)
		require.NoError(t, err)
	})
}
