package store

import (
	"bytes"
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/record"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/headlog"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// shipHead writes a head log with one sample of the series {n="1"} at the time t.
func shipHead(t *testing.T, bkt bucket.Bucket, ext labels.Labels, at int64) {
	put := func(name string, b []byte) {
		dir := headlog.GenerationDir(headlog.Source(ext), ulid.MustNew(1, nil))
		require.NoError(t, bkt.Upload(t.Context(), dir+"/"+name, bytes.NewReader(b), int64(len(b))))
	}
	info, err := headlog.EncodeInfo(ext, 1)
	require.NoError(t, err)
	put(headlog.InfoName, info)
	var e record.Encoder
	w, err := headlog.NewWriter(true)
	require.NoError(t, err)
	piece := func(n headlog.Name, rec []byte) {
		w.Reset()
		require.NoError(t, w.Add(headlog.CodecNone, rec))
		b, err := w.Finish(n, 0)
		require.NoError(t, err)
		put(n.String(), b)
	}
	piece(headlog.Name{Seq: 1, Kind: headlog.KindSeries, End: 1}, e.Series([]record.RefSeries{{Ref: 1, Labels: labels.FromStrings("n", "1")}}, nil))
	piece(headlog.Name{Seq: 2, Kind: headlog.KindWAL, End: 1, MinTime: at, MaxTime: at}, e.Samples([]record.RefSample{{Ref: 1, T: at, V: 7}}, nil))
}

// A gateway serves the samples of a head log once its source is gone, and only then.
func TestRun_RecoversHeadLogs(t *testing.T) {
	bkt := bucket.NewMemory()
	g := newGateway(t, bkt, "--sync-block-duration=10m", "--store.disk-cache-size=0", "--store.recover-heads-after=1h")
	off := newGateway(t, bkt, "--sync-block-duration=10m", "--store.disk-cache-size=0", "--store.recover-heads-after=0s")
	r := &storeapi.Request{MinTime: 0, MaxTime: 2 * hour, Matchers: []*labels.Matcher{matcher(labels.MatchRegexp, "n", ".+")}}
	synctest.Test(t, func(t *testing.T) {
		shipHead(t, bkt, labels.FromStrings("cluster", "c"), hour)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		for _, g := range []*Gateway{g, off} {
			g.deps.Marks, g.resync = bkt, make(chan struct{}, 1)
			go func() { ended <- g.Run(ctx) }()
		}
		time.Sleep(55 * time.Minute)
		synctest.Wait()
		got, ws := readPartial(t, g.Select(ctx, r), r)
		require.Empty(t, got)
		require.Empty(t, ws)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		got, ws = readPartial(t, g.Select(ctx, r), r)
		require.Len(t, got, 1)
		require.Empty(t, ws)
		cancel()
		require.NoError(t, <-ended)
		require.NoError(t, <-ended)
	})
}
