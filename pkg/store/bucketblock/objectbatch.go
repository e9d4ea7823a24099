package bucketblock

import (
	"fmt"
	"math"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/hindsight-io/hindsight/pkg/block/blockcolumns"
	"github.com/hindsight-io/hindsight/pkg/chunkcheck"
	"github.com/hindsight-io/hindsight/pkg/columnchunk"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/xorcolumn"
)

// objectBatch adds series of a columns object to a batch.
type objectBatch struct {
	q      *Query
	out    *batch
	chunks []blockcolumns.Chunk
	before labels.Labels
	// encoded is about how many bytes the chunks have as those of a TSDB.
	encoded int64
	ext     []labels.Label
	builder labels.ScratchBuilder
}

// series adds a series with those of its chunks that are in the time range. b are its bytes.
func (a *objectBatch) series(lset labels.Labels, b []byte) (err error) {
	if a.chunks, err = blockcolumns.DecodeChunks(a.chunks[:0], b); err != nil {
		return err
	}
	lo := len(a.out.chunks)
	for _, c := range a.chunks {
		if c.MinTime > a.q.MaxTime || c.MaxTime < a.q.MinTime {
			continue
		}
		if err := a.check(c); err != nil {
			return fmt.Errorf("%w: %w", errDamaged, err)
		}
		a.out.chunks = append(a.out.chunks, storeapi.Chunk{
			MinTime: c.MinTime, MaxTime: c.MaxTime, Raw: storeapi.Data{Encoding: c.Encoding, Bytes: c.Bytes},
		})
	}
	if hi := len(a.out.chunks); hi > lo {
		item := seriesItem{lset: a.withExternal(lset), lo: lo, hi: hi, common: commonLabels(a.before, lset), size: lset.Len()}
		a.out.items = append(a.out.items, item)
		a.before = lset
	}
	return nil
}

// check checks a chunk, so that decoding cannot fail but at samples that contradict it.
func (a *objectBatch) check(c blockcolumns.Chunk) error {
	if c.Encoding != columnchunk.Encoding {
		return chunkcheck.Check(c.Encoding, c.Bytes)
	}
	a.encoded += min(columnchunk.SourceSize(c.Bytes), mostGrowth*int64(len(c.Bytes)))
	return columnchunk.Check(c.Bytes)
}

// mostGrowth bounds how many times the bytes of columns a chunk of a TSDB may claim: 4,096
// samples that all have the same step, in 40 bytes, take 2 bits each there.
const mostGrowth = 32

// size is about the memory that encode needs.
func (a *objectBatch) size() int64 {
	const room = 4 << 10 // the encoder wants that for the longest samples
	if a.q.Columns || a.encoded == 0 {
		return 0
	}
	return a.encoded + room
}

// encode makes chunks of a TSDB of the columns, and appends them to memory.
func (a *objectBatch) encode(memory []byte) error {
	var samples xorcolumn.Columns
	var encoder xorcolumn.Encoder
	for i := range a.out.chunks {
		raw := &a.out.chunks[i].Raw
		if raw.Encoding != columnchunk.Encoding {
			continue
		}
		samples.Reset()
		if _, err := columnchunk.AppendUntil(&samples, raw.Bytes, math.MaxInt64); err != nil {
			return err
		}
		start := len(memory)
		encoder.Reset(memory)
		encoder.AppendColumns(samples.T, samples.V)
		memory = encoder.Finish()
		*raw = storeapi.Data{Encoding: chunkenc.EncXOR, Bytes: memory[start:len(memory):len(memory)]}
	}
	return nil
}

// withExternal adds the external labels, of whose names the series has none.
func (a *objectBatch) withExternal(lset labels.Labels) labels.Labels {
	if len(a.ext) == 0 {
		return lset
	}
	a.builder.Reset()
	lset.Range(func(l labels.Label) { a.builder.Add(l.Name, l.Value) })
	for _, l := range a.ext {
		a.builder.Add(l.Name, l.Value)
	}
	a.builder.Sort()
	return a.builder.Labels()
}

// commonLabels is the number of labels with which both begin.
func commonLabels(a, b labels.Labels) int {
	var first []labels.Label
	a.Range(func(l labels.Label) { first = append(first, l) })
	n, same := 0, true
	b.Range(func(l labels.Label) {
		if same = same && n < len(first) && first[n] == l; same {
			n++
		}
	})
	return n
}
