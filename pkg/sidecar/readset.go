package sidecar

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/chunkcheck"
	"github.com/hindsight-io/hindsight/pkg/sidecar/prom"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

var errNewLabel = errors.New("a label is new in Prometheus, repeat the request")

// readSet is one remote read as a set of the stored label sets. It sends the
// request at the first Next.
//
// The order of the answer depends on the labels that series in Prometheus were
// known to have. The set checks it: a series out of order, or with a label that no
// series was known to have, ends it with an error, and the source checks
// Prometheus again.
type readSet struct {
	ctx    context.Context
	source *source
	query  prom.ReadQuery
	// absent are labels that no series has.
	absent []string

	stream prom.Series
	last   labels.Labels
	chunks []storeapi.Chunk
	stats  storeapi.Stats
	err    error
	bad    badChunks
}

func (s *readSet) Next() bool {
	if s.err != nil {
		return false
	}
	if s.stream == nil {
		stream, err := s.source.client.Read(s.ctx, s.query)
		if err != nil {
			s.err = failed(s.source, err)
			return false
		}
		s.stream = stream
	}
	if !s.stream.Next() {
		if err := s.stream.Err(); err != nil {
			s.err = failed(s.source, err)
		}
		return false
	}
	s.err = s.check(s.stream.Labels())
	s.chunks = s.bad.convert(s.chunks[:0], s.stream.Chunks())
	s.count()
	return s.err == nil
}

func (s *readSet) check(lset labels.Labels) error {
	if labels.Compare(s.last, lset) > 0 || slices.ContainsFunc(s.absent, lset.Has) {
		s.source.recheck()
		return fmt.Errorf("%w: %w: %s", storeapi.ErrUnavailable, errNewLabel, lset)
	}
	s.last = lset
	return nil
}

// badChunks holds the error of the first chunk that was dropped because it
// announces more than it holds. Opening such a chunk could take any amount of
// memory.
type badChunks struct{ first error }

// convert appends the chunks that can be opened to out.

func (b *badChunks) convert(out []storeapi.Chunk, in []prom.Chunk) []storeapi.Chunk {
	for _, c := range in {
		if err := chunkcheck.Check(c.Encoding, c.Bytes); err != nil {
			if b.first == nil {
				b.first = err
			}
			continue
		}
		out = append(out, storeapi.Chunk{
			MinTime: c.MinTime, MaxTime: c.MaxTime,
			Raw: storeapi.Data{Encoding: c.Encoding, Bytes: c.Bytes},
		})
	}
	return out
}

func (b *badChunks) warnings(source string) storeapi.Warnings {
	if b.first == nil {
		return nil
	}
	return storeapi.Warnings{{Source: source, Text: fmt.Sprintf("%s sent a chunk that cannot be read and was dropped: %v", source, b.first)}}
}

func (s *readSet) count() {
	s.stats.SeriesFetched++
	s.stats.ChunksFetched += int64(len(s.chunks))
	for _, c := range s.chunks {
		s.stats.BytesFetched += int64(len(c.Raw.Bytes))
	}
}

func (s *readSet) At() storeapi.Series {
	return storeapi.Series{Labels: s.last, Chunks: s.chunks}
}

func (s *readSet) Err() error                  { return s.err }
func (s *readSet) Warnings() storeapi.Warnings { return s.bad.warnings(s.source.client.URL()) }
func (s *readSet) Stats() storeapi.Stats       { return s.stats }

func (s *readSet) Close() error {
	if s.stream == nil {
		return nil
	}
	// An error here is about the rest of the answer, which is not needed.
	_ = s.stream.Close()
	return nil
}

// outerLabels converts stored label sets into those of the answer.
type outerLabels struct {
	ext     labels.Labels
	drop    []string
	builder *labels.Builder
}

func newOuterLabels(ext labels.Labels, drop []string) *outerLabels {
	return &outerLabels{ext: ext, drop: drop, builder: labels.NewBuilder(labels.EmptyLabels())}
}

func (o *outerLabels) of(stored labels.Labels) labels.Labels {
	o.builder.Reset(stored)
	o.ext.Range(func(l labels.Label) { o.builder.Set(l.Name, l.Value) })
	o.builder.Del(o.drop...)
	return o.builder.Labels()
}
