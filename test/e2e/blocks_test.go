package e2e

import (
	"context"
	"log/slog"
	"math"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/stretchr/testify/require"
)

const (
	hour     = int64(time.Hour / time.Millisecond)
	twoHours = 2 * hour
)

// metric makes values that a test can compute again: a gauge that swings, or a counter
// that restarts sometimes.
type metric struct {
	name    string
	counter bool
}

func (m metric) value(series int, t int64) float64 {
	if m.counter {
		// One more each second, with a restart every 5 h 3 min.
		const life = 5*hour + 3*60*1000
		return float64((t+int64(series)*600_000)%life) / 1000
	}
	return math.Round(1000*math.Sin(float64(t)/1e7+float64(series))) / 8
}

// writeBlock makes one TSDB block in dir with samples of every step from mint up
// to, not including, maxt. offset shifts the samples, like the scrapes of
// another replica.
func writeBlock(t *testing.T, dir string, mint, maxt, step, offset int64, ms []metric) ulid.ULID {
	t.Helper()
	w, err := tsdb.NewBlockWriter(slog.New(slog.DiscardHandler), dir, maxt-mint)
	require.NoError(t, err)
	defer func() { require.NoError(t, w.Close()) }()
	ctx := context.Background()
	app := w.Appender(ctx)
	for at := mint + offset; at < maxt; at += step {
		for _, m := range ms {
			for i := range 3 {
				ls := labels.FromStrings("__name__", m.name, "series", strconv.Itoa(i))
				_, err := app.Append(0, ls, at, m.value(i, at))
				require.NoError(t, err)
			}
		}
	}
	require.NoError(t, app.Commit())
	id, err := w.Flush(ctx)
	require.NoError(t, err)
	return id
}

// blockDirs lists the blocks of a TSDB directory.
func blockDirs(t *testing.T, dir string) []string {
	t.Helper()
	out, err := filepath.Glob(filepath.Join(dir, "*", "meta.json"))
	require.NoError(t, err)
	return out
}
