package tsdbstore

import (
	"errors"
	"math"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, samples int, sets ...labels.Labels) *tsdb.DB {
	opts := tsdb.DefaultOptions()
	opts.NoLockfile = true
	db, err := tsdb.Open(t.TempDir(), nil, nil, opts, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	app := db.Appender(t.Context())
	for _, l := range sets {
		for i := range int64(samples) {
			_, err := app.Append(0, l, 1000*i, float64(i))
			require.NoError(t, err)
		}
	}
	require.NoError(t, app.Commit())
	return db
}

func answer(t *testing.T, db DB, ext labels.Labels, drop ...string) (out []string) {
	s := New(db, Config{Component: "receive", External: func() labels.Labels { return ext }})
	set := s.Select(t.Context(), &storeapi.Request{
		MaxTime: math.MaxInt64, WithoutReplicaLabels: drop,
		Matchers: []*labels.Matcher{labels.MustNewMatcher(labels.MatchRegexp, "__name__", ".+")},
	})
	for set.Next() {
		out = append(out, set.At().Labels.String())
	}
	require.NoError(t, set.Err())
	require.NoError(t, set.Close())
	return out
}

// The replica labels are stored with the series, as in a receiver.
func TestReplicaLabels_OfSeriesAreRemoved(t *testing.T) {
	db := open(t, 1,
		labels.FromStrings("__name__", "up", "instance", "1", "replica", "a", "zone", "z"),
		labels.FromStrings("__name__", "up", "instance", "1", "replica", "b", "zone", "y"),
		labels.FromStrings("__name__", "up", "instance", "2", "replica", "a", "zone", "z"),
	)
	want := []string{
		`{__name__="up", instance="1", zone="y"}`,
		`{__name__="up", instance="1", zone="z"}`,
		`{__name__="up", instance="2", zone="z"}`,
	}
	require.Equal(t, want, answer(t, db, labels.EmptyLabels(), "replica", "none"))

	// One that becomes a prefix of all the others, and is read last.
	db = open(t, 1,
		labels.FromStrings("__name__", "up", "instance", "1", "replica", "a"),
		labels.FromStrings("__name__", "up", "instance", "2", "replica", "a"),
		labels.FromStrings("__name__", "up", "replica", "a"),
	)
	require.Equal(t, []string{`{__name__="up"}`, `{__name__="up", instance="1"}`, `{__name__="up", instance="2"}`},
		answer(t, db, labels.EmptyLabels(), "replica"))
	require.Equal(t, []string{`{__name__="up", instance="1", tenant="t"}`, `{__name__="up", instance="2", tenant="t"}`, `{__name__="up", tenant="t"}`},
		answer(t, db, labels.FromStrings("replica", "x", "tenant", "t"), "replica"))
}

func TestChunkTimes_OpenChunkEndsAtLastSample(t *testing.T) {
	db := open(t, 300, labels.FromStrings("__name__", "up"))
	s := New(db, Config{})
	set := s.Select(t.Context(), &storeapi.Request{MinTime: 5000, MaxTime: 280_000, Matchers: []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "__name__", "up")}})
	require.True(t, set.Next())
	chunks := set.At().Chunks
	require.Equal(t, int64(0), chunks[0].MinTime, "chunks are returned whole")
	require.Equal(t, int64(299_000), chunks[len(chunks)-1].MaxTime)
	require.False(t, set.Next())
	st := set.Stats()
	require.Equal(t, int64(1), st.SeriesTouched)
	require.Equal(t, int64(len(chunks)), st.ChunksTouched)
	require.Positive(t, st.ChunksBytes)
	require.NoError(t, set.Close())
}

// brokenDB fails in all that it is asked.
type brokenDB struct{}

var errDisk = errors.New("disk on fire")

func (brokenDB) ChunkQuerier(int64, int64) (storage.ChunkQuerier, error) { return nil, errDisk }
func (brokenDB) StartTime() (int64, error)                               { return 0, errDisk }

func TestBrokenDB_ReturnsError(t *testing.T) {
	s := New(brokenDB{}, Config{})
	require.Equal(t, int64(math.MinInt64), s.Info().MinTime, "never left out for its time")
	r := &storeapi.Request{Matchers: []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "a", "b")}}
	set := s.Select(t.Context(), r)
	require.False(t, set.Next())
	require.ErrorIs(t, set.Err(), errDisk)
	require.NoError(t, set.Close())
	_, _, err := s.LabelNames(t.Context(), r)
	require.ErrorIs(t, err, errDisk)
	_, _, err = s.LabelValues(t.Context(), "a", r)
	require.ErrorIs(t, err, errDisk)
}
