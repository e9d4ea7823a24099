package query

import (
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/hindsight-io/hindsight/pkg/aggr"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// maxDamage bounds the warnings about single chunks of one selection.
const maxDamage = 5

// inspector finds chunks that cannot be decoded. A nil inspector finds none.
type inspector struct {
	aggrs []storeapi.Aggregate
	// name names the store that a chunk is from.
	name  func(origin uint16) string
	found []storeapi.Warning
	more  int
	reuse chunkenc.Iterator
}

// whole returns the chunks that can be decoded, in place.
func (i *inspector) whole(lset labels.Labels, chunks []storeapi.Chunk) []storeapi.Chunk {
	if i == nil {
		return chunks
	}
	kept := chunks[:0]
	for _, c := range chunks {
		err := i.decode(&c)
		if err == nil {
			kept = append(kept, c)
			continue
		}
		if len(i.found) == maxDamage {
			i.more++
			continue
		}
		source := i.name(c.Raw.Origin)
		i.found = append(i.found, storeapi.Warning{Source: source, Text: fmt.Sprintf(
			"store %s: left out a chunk of series %s, %s to %s, that cannot be decoded: %s", source, lset,
			clock(c.MinTime), clock(c.MaxTime), err)})
	}
	return kept
}

func (i *inspector) decode(c *storeapi.Chunk) error {
	i.reuse = aggr.ChunkIterator(c, i.aggrs, i.reuse)
	for typ := i.reuse.Next(); typ != chunkenc.ValNone; typ = i.reuse.Next() {
	}
	return i.reuse.Err()
}

// warnings reports the chunks that were left out.
func (i *inspector) warnings() storeapi.Warnings {
	if i == nil {
		return nil
	}
	if i.more > 0 {
		last := i.found[len(i.found)-1]
		return append(i.found, storeapi.Warning{Source: last.Source, Text: fmt.Sprintf("%d more chunks that cannot be decoded were left out", i.more)})
	}
	return i.found
}

func clock(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339) }

// originNames returns the function that names the stores of a merged set.
func originNames(set storeapi.SeriesSet) func(uint16) string {
	return func(origin uint16) string {
		if o, ok := set.(storeapi.OriginSet); ok {
			if name := o.OriginName(origin); name != "" {
				return name
			}
		}
		return "unknown"
	}
}

// originOf names the stores that a series is from.
func originOf(set storeapi.SeriesSet, s storeapi.Series) string {
	name := originNames(set)
	var names []string
	seen := map[uint16]bool{}
	for _, c := range s.Chunks {
		if o := c.Raw.Origin; !seen[o] {
			seen[o] = true
			names = append(names, name(o))
		}
	}
	if len(names) == 0 {
		return "the stores"
	}
	return "store " + strings.Join(names, ", ")
}
