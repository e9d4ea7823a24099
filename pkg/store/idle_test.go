package store

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestIdleness_FreesMemoryOnceAfterRequests(t *testing.T) {
	freed, unused := 0, uint64(1<<30)
	i := idleness{unused: func() uint64 { return unused }, free: func() { freed++ }}
	f := func(begun uint64, busy bool, want int) {
		t.Helper()
		i.tick(begun, busy)
		require.Equal(t, want, freed)
	}
	f(0, false, 0) // no request yet
	f(5, false, 0) // requests have begun since the last tick
	f(5, true, 0)  // one still holds memory
	f(5, false, 1)
	f(5, false, 1) // once
	f(6, false, 1)
	unused = 1 << 20
	f(6, false, 1) // not worth it
	unused = 1 << 30
	f(7, false, 1)
	f(7, false, 2)
}
