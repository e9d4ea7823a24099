package storerpc

import (
	"cmp"
	"fmt"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/hindsight-io/hindsight/pkg/chunkcheck"
	"github.com/hindsight-io/hindsight/pkg/limit"
	"github.com/hindsight-io/hindsight/pkg/protoscan"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storepb/hintspb"
)

// frame is a decoded SeriesResponse. Label sets and chunk bytes are in memory
// that belongs to this one message, labels and chunks apart, and stay valid for
// ever; the slices of series and chunks are used again for the next message.
type frame struct {
	series   []storeapi.Series
	warnings texts
	hints    *hintspb.SeriesResponseHints
	// bad says why the first chunk was left out that cannot be what it says.
	bad error

	chunks []storeapi.Chunk
	// ends are, for every series, the end of its chunks.
	ends   []int
	aggrs  []storeapi.Aggregates
	labels setDecoder
	// kept is the size of the message that is being decoded if its bytes stay as they are
	// for ever, and else 0.
	kept int
	// data holds the chunk bytes of all but packed frames.
	data []byte
	// usedData is how many bytes the last message had, as the guess for the next one.
	usedData int
	// size is that of the message that is being decoded. No part needs more.
	size int
}

// UnmarshalView decodes data and copies what it keeps. Copying the two parts
// apart is cheaper than keeping the message: it is smaller, and no part keeps
// the other in memory.
func (f *frame) UnmarshalView(data []byte) error {
	f.series, f.warnings, f.hints, f.bad = f.series[:0], texts{}, nil, nil
	f.chunks, f.ends, f.aggrs = f.chunks[:0], f.ends[:0], nil
	f.size = len(data)
	f.labels.reset(len(data))
	defer f.labels.release()
	if f.data = nil; !f.keeps(data) {
		f.data = make([]byte, 0, min(len(data), guess(f.usedData)))
		f.usedData = 0
	}
	if err := f.addFields(data); err != nil {
		return fmt.Errorf("decode a series response of %d bytes: %w", len(data), err)
	}
	start := 0
	for i, end := range f.ends {
		f.series[i].Chunks = f.chunks[start:end:end]
		start = end
	}
	return nil
}

// addFields adds the fields of a SeriesResponse.
func (f *frame) addFields(data []byte) (err error) {
	fields, field := protoscan.Fields{B: data}, protoscan.Field{}
	for err == nil && fields.Next(&field) {
		switch field.Tag {
		case tagResponseSeries:
			err = f.addSeries(field.Data, true)
		case tagResponseBatch:
			err = f.addBatch(field.Data)
		case tagResponsePacked:
			err = f.addPacked(field.Data)
		case tagResponseWarning:
			f.warnings.add(field.Data)
		case tagResponseHints:
			f.addHints(field.Data)
		}
	}
	return cmp.Or(err, fields.Err())
}

func guess(last int) int { return last + last/8 + 256 }

// keep copies bytes of a chunk.
func (f *frame) keep(b []byte) []byte {
	if cap(f.data)-len(f.data) < len(b) {
		f.data = make([]byte, 0, min(max(8<<10, len(b)), f.size))
	}
	n := len(f.data)
	f.data = append(f.data, b...)
	f.usedData += len(b)
	return f.data[n:len(f.data):len(f.data)]
}

// addHints ignores hints that it does not understand, or that are too many: they
// never matter for the answer.
func (f *frame) addHints(b []byte) {
	if len(b) > maxHints {
		return
	}
	var a anypb.Any
	h := &hintspb.SeriesResponseHints{}
	codec := Codec()
	if codec.Unmarshal(bufferOf(b), &a) == nil && a.MessageIs(h) && a.UnmarshalTo(h) == nil {
		f.hints = h
	}
}

func (f *frame) addBatch(b []byte) error {
	fields, field := protoscan.Fields{B: b}, protoscan.Field{}
	for fields.Next(&field) {
		if field.Tag == tagBatchSeries {
			if err := f.addSeries(field.Data, true); err != nil {
				return err
			}
		}
	}
	return fields.Err()
}

// addSeries writes labels straight into the arena as long as they are in order,
// as they always are from a proper server. Without withChunks it ignores chunks.
func (f *frame) addSeries(msg []byte, withChunks bool) error {
	if len(f.series) >= maxFrameSeries {
		return fmt.Errorf("%w: more than %d series in one message", limit.ErrExceeded, maxFrameSeries)
	}
	read, err := f.labels.begin(msg)
	if err != nil {
		return err
	}
	fields, field := protoscan.Fields{B: msg[read:]}, protoscan.Field{}
	for fields.Next(&field) {
		switch field.Tag {
		case tagSeriesLabel:
			if err := f.labels.add(field.Data); err != nil {
				return err
			}
		case tagSeriesChunk:
			if !withChunks {
				continue
			}
			if err := f.addChunk(field.Data); err != nil {
				return err
			}
		}
	}
	if err := fields.Err(); err != nil {
		return err
	}
	lset, err := f.labels.finish(msg)
	if err != nil {
		return err
	}
	f.series = append(f.series, storeapi.Series{Labels: lset})
	f.ends = append(f.ends, len(f.chunks))
	return nil
}

// addChunk decodes a chunk and adds it to the frame. A chunk without data, which
// includes one whose data failed its check, is left out. A frame with more than
// maxFrameChunks chunks is an error.
func (f *frame) addChunk(b []byte) error {
	mint, maxt, data, ok := plainChunk(b)
	if !ok || chunkcheck.Check(chunkenc.EncXOR, data) != nil {
		return f.addAnyChunk(b)
	}
	return f.appendChunk(storeapi.Chunk{
		MinTime: mint, MaxTime: maxt,
		Raw: storeapi.Data{Encoding: chunkenc.EncXOR, Bytes: f.keep(data)},
	})
}

// addAnyChunk is addChunk for chunks of any form.
func (f *frame) addAnyChunk(b []byte) error {
	var (
		c    storeapi.Chunk
		aggr storeapi.Aggregates
	)
	fields, field := protoscan.Fields{B: b}, protoscan.Field{}
	for fields.Next(&field) {
		var err error
		switch field.Tag {
		case tagMinTime:
			c.MinTime = int64(field.Num)
		case tagMaxTime:
			c.MaxTime = int64(field.Num)
		case tagRaw:
			c.Raw, err = f.decodeData(field.Data)
		case tagCount:
			aggr.Count, err = f.decodeData(field.Data)
		case tagSum:
			aggr.Sum, err = f.decodeData(field.Data)
		case tagMin:
			aggr.Min, err = f.decodeData(field.Data)
		case tagMax:
			aggr.Max, err = f.decodeData(field.Data)
		case tagCounter:
			aggr.Counter, err = f.decodeData(field.Data)
		case tagResolution:
			aggr.Resolution = max(0, int64(field.Num))
		}
		if err != nil {
			return err
		}
	}
	if err := fields.Err(); err != nil {
		return err
	}
	if hasAggregate(&aggr) {
		// Growing the slice leaves the older aggregates where they are.
		f.aggrs = append(f.aggrs, aggr)
		c.Aggr = &f.aggrs[len(f.aggrs)-1]
	} else if c.Raw.Bytes == nil {
		return nil // nothing is in it
	}
	return f.appendChunk(c)
}

// appendChunk adds a chunk to the frame.
func (f *frame) appendChunk(c storeapi.Chunk) error {
	if len(f.chunks) >= maxFrameChunks {
		return fmt.Errorf("%w: more than %d chunks in one message", limit.ErrExceeded, maxFrameChunks)
	}
	f.chunks = append(f.chunks, c)
	return nil
}

func hasAggregate(a *storeapi.Aggregates) bool {
	return a.Count.Bytes != nil || a.Sum.Bytes != nil || a.Min.Bytes != nil || a.Max.Bytes != nil || a.Counter.Bytes != nil
}

// decodeData decodes the data of a chunk or aggregate and copies its bytes into the
// frame. Data that fails the check of package chunkcheck is left out: the result is
// empty without an error, and f.bad has the first such failure. Malformed fields and
// an unknown encoding fail the frame.
func (f *frame) decodeData(b []byte) (storeapi.Data, error) {
	d := storeapi.Data{Encoding: chunkenc.EncXOR}
	fields, field := protoscan.Fields{B: b}, protoscan.Field{}
	for fields.Next(&field) {
		switch field.Tag {
		case tagChunkType:
			if field.Num > 254 {
				return d, fmt.Errorf("chunk has the unknown encoding %d", field.Num)
			}
			d.Encoding = chunkenc.Encoding(field.Num + 1)
		case tagChunkData:
			d.Bytes = field.Data
		case tagChunkHash:
			d.Hash = field.Num
		}
	}
	if err := fields.Err(); err != nil {
		return d, err
	}
	if err := chunkcheck.Check(d.Encoding, d.Bytes); err != nil {
		// The rest of the answer is good.
		if f.bad == nil {
			f.bad = err
		}
		return storeapi.Data{}, nil
	}
	d.Bytes = f.keep(d.Bytes)
	return d, nil
}
