package storerpc

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storepb/hintspb"
)

// seriesHintsToWire returns nil when there is nothing to say: stores may refuse
// hints that they do not know.
func seriesHintsToWire(r *storeapi.Request) (*anypb.Any, error) {
	if len(r.BlockMatchers) == 0 && !r.WantStats {
		return nil, nil
	}
	return toAny(&hintspb.SeriesRequestHints{
		BlockMatchers:    matchersToWire(r.BlockMatchers),
		EnableQueryStats: r.WantStats,
	})
}

func toAny(m proto.Message) (*anypb.Any, error) {
	a, err := anypb.New(m)
	if err != nil {
		return nil, fmt.Errorf("encode hints %T: %w", m, err)
	}
	return a, nil
}

// readRequestHints sets what the hints of any of the three calls say. Hints of
// an unknown type are an error when strict, else nothing.
func readRequestHints(a *anypb.Any, strict bool, r *storeapi.Request) error {
	if a == nil {
		return nil
	}
	m, err := a.UnmarshalNew()
	if err == nil {
		switch h := m.(type) {
		case *hintspb.SeriesRequestHints:
			r.WantStats = h.GetEnableQueryStats()
			r.BlockMatchers, err = matchersFromWire(h.GetBlockMatchers())
			return err
		case *hintspb.LabelNamesRequestHints:
			r.BlockMatchers, err = matchersFromWire(h.GetBlockMatchers())
			return err
		case *hintspb.LabelValuesRequestHints:
			r.BlockMatchers, err = matchersFromWire(h.GetBlockMatchers())
			return err
		}
	}
	if strict {
		return fmt.Errorf("%w: hints of the unknown type %q", storeapi.ErrInvalid, a.GetTypeUrl())
	}
	return nil
}

// namesHintsToWire and valuesHintsToWire carry block matchers of label calls.
func namesHintsToWire(ms []*labels.Matcher) (*anypb.Any, error) {
	if len(ms) == 0 {
		return nil, nil
	}
	return toAny(&hintspb.LabelNamesRequestHints{BlockMatchers: matchersToWire(ms)})
}

func valuesHintsToWire(ms []*labels.Matcher) (*anypb.Any, error) {
	if len(ms) == 0 {
		return nil, nil
	}
	return toAny(&hintspb.LabelValuesRequestHints{BlockMatchers: matchersToWire(ms)})
}

// statsToWire returns the statistics of an answer, those that only this project has among
// the unknown fields.
func statsToWire(st storeapi.Stats) *hintspb.SeriesResponseHints {
	out := &hintspb.SeriesResponseHints{QueryStats: &hintspb.QueryStats{
		BlocksQueried:          st.BlocksQueried,
		MergedSeriesCount:      st.MergedSeries,
		MergedChunksCount:      st.MergedChunks,
		PostingsTouched:        st.PostingsTouched,
		PostingsFetched:        st.PostingsFetched,
		PostingsFetchCount:     st.PostingsFetches,
		PostingsFetchedSizeSum: st.PostingsBytes,
		SeriesTouched:          st.SeriesTouched,
		SeriesFetched:          st.SeriesFetched,
		SeriesFetchCount:       st.SeriesFetches,
		SeriesFetchedSizeSum:   st.SeriesBytes,
		ChunksTouched:          st.ChunksTouched,
		ChunksFetched:          st.ChunksFetched,
		ChunksFetchCount:       st.ChunksFetches,
		ChunksFetchedSizeSum:   st.ChunksBytes,
		DataDownloadedSizeSum:  st.BytesFetched,
		GetAllDuration:         durationpb.New(st.Duration),
	}}
	addStats(out.QueryStats, st)
	for _, id := range st.QueriedBlocks {
		out.QueriedBlocks = append(out.QueriedBlocks, &hintspb.Block{Id: id})
	}
	return out
}

// statsFromWire returns the statistics of a response. Of its two durations the
// longer one is used.
func statsFromWire(h *hintspb.SeriesResponseHints) storeapi.Stats {
	q := h.GetQueryStats()
	st := storeapi.Stats{
		BlocksQueried:   q.GetBlocksQueried(),
		MergedSeries:    q.GetMergedSeriesCount(),
		MergedChunks:    q.GetMergedChunksCount(),
		PostingsTouched: q.GetPostingsTouched(),
		PostingsFetched: q.GetPostingsFetched(),
		PostingsFetches: q.GetPostingsFetchCount(),
		PostingsBytes:   q.GetPostingsFetchedSizeSum(),
		SeriesTouched:   q.GetSeriesTouched(),
		SeriesFetched:   q.GetSeriesFetched(),
		SeriesFetches:   q.GetSeriesFetchCount(),
		SeriesBytes:     q.GetSeriesFetchedSizeSum(),
		ChunksTouched:   q.GetChunksTouched(),
		ChunksFetched:   q.GetChunksFetched(),
		ChunksFetches:   q.GetChunksFetchCount(),
		ChunksBytes:     q.GetChunksFetchedSizeSum(),
		BytesFetched:    q.GetDataDownloadedSizeSum(),
		Duration:        max(q.GetGetAllDuration().AsDuration(), q.GetMergeDuration().AsDuration(), time.Duration(0)),
	}
	if q != nil {
		readStats(q, &st)
	}
	for _, b := range h.GetQueriedBlocks() {
		st.QueriedBlocks = append(st.QueriedBlocks, b.GetId())
	}
	return st
}
