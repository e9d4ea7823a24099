package eval

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// One core is left to other queries while there are some: of three workers two decode at
// one time, of two only one, also where the others come after the workers have begun. The
// time of the bubble moves only when all goroutines wait, so all that may decode at one
// time do.
func TestExec_LeavesACoreToOtherQueries(t *testing.T) {
	const never, always, later = 1 << 40, 0, 1000
	for name, c := range map[string]struct {
		workers   int
		from      int64 // the number of decoded series from which there are other queries
		mostAtAll int64
		mostAtEnd int64
	}{
		"alone":             {3, never, 3, 3},
		"crowded":           {3, always, 2, 2},
		"crowded later":     {3, later, 3, 2},
		"two, alone":        {2, never, 2, 2},
		"two, crowded":      {2, always, 1, 1},
		"two, later":        {2, later, 2, 1},
		"one has no second": {1, always, 1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var now, most, atEnd atomic.Int64
				s := &countedStorage{series: 4000}
				s.decode = func() {
					n := now.Add(1)
					most.Store(max(most.Load(), n))
					if s.decoded.Load() > 2000 {
						atEnd.Store(max(atEnd.Load(), n))
					}
					time.Sleep(time.Millisecond)
					now.Add(-1)
				}
				crowded := func() bool { return s.decoded.Load() >= c.from }
				_, err := countedProgram(t, "sum(rate(x[1m]))", Options{Workers: c.workers, inline: 1, Crowded: crowded}).Exec(t.Context(), s)
				require.NoError(t, err)
				require.EqualValues(t, 4000, s.decoded.Load())
				require.Equal(t, c.mostAtAll, most.Load())
				require.Equal(t, c.mostAtEnd, atEnd.Load())
				require.Zero(t, s.open.Load())
			})
		})
	}
}
