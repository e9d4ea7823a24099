package remotewrite

import "sync"

// Counts counts the items of a batch.
type Counts struct {
	Series, Samples, Histograms, Exemplars int
}

// Plus returns the sum of both.
func (c Counts) Plus(o Counts) Counts {
	return Counts{c.Series + o.Series, c.Samples + o.Samples, c.Histograms + o.Histograms, c.Exemplars + o.Exemplars}
}

// Minus returns the difference, never below 0.
func (c Counts) Minus(o Counts) Counts {
	return Counts{
		max(c.Series-o.Series, 0), max(c.Samples-o.Samples, 0),
		max(c.Histograms-o.Histograms, 0), max(c.Exemplars-o.Exemplars, 0),
	}
}

// Batch is the series of one request and one tenant, in wire form. It owns a
// Buffer; everything that its methods return is a view into that.
//
// A Batch belongs to one goroutine, or is read-only for several. Close ends
// it; nothing of it may be used afterwards.
type Batch struct {
	buf      *Buffer
	data     []byte
	spans    []span
	metadata [][]byte
	counts   Counts
	rejected Rejected
}

// span locates one series in the data of its batch.
type span struct {
	start  uint32 // the tag of the field
	labels uint32 // first byte of the message, where the labels begin
	rest   uint32 // first byte after the labels
	end    uint32 // first byte after the message
}

// batchPool holds closed batches for the reuse of their slices.
var batchPool = sync.Pool{New: func() any { return new(Batch) }}

// newBatch returns an empty batch that takes over the caller's ownership of
// buf.
func newBatch(buf *Buffer, data []byte) *Batch {
	b := batchPool.Get().(*Batch)
	b.buf, b.data = buf, data
	return b
}

// Close releases the memory.
func (b *Batch) Close() {
	if b == nil {
		return
	}
	b.buf.Release()
	clear(b.metadata)
	*b = Batch{spans: b.spans[:0], metadata: b.metadata[:0]}
	batchPool.Put(b)
}

// Buffer returns the buffer that the series live in. A caller that keeps a view
// after Close retains it.
func (b *Batch) Buffer() *Buffer { return b.buf }

// Len returns the number of series.
func (b *Batch) Len() int { return len(b.spans) }

// Counts returns the number of items.
func (b *Batch) Counts() Counts { return b.counts }

// Series returns the i-th series.
func (b *Batch) Series(i int) Series {
	s := b.spans[i]
	return Series{
		Labels: b.data[s.labels:s.rest:s.rest],
		Rest:   b.data[s.rest:s.end:s.end],
	}
}

// Raw returns the i-th series with its tag and length: bytes that can be put
// into any message with the series in field 1.
func (b *Batch) Raw(i int) []byte {
	s := b.spans[i]
	return b.data[s.start:s.end:s.end]
}

// Offset returns where the i-th series begins, in bytes from the beginning of the
// first.
func (b *Batch) Offset(i int) int { return int(b.spans[i].start) }

// Metadata returns the metric metadata of a remote write 1.0 request, one
// prometheus.MetricMetadata message each; see ParseMetadata.
func (b *Batch) Metadata() [][]byte { return b.metadata }

// AppendMetadata appends the metadata as fields of a request.
func (b *Batch) AppendMetadata(dst []byte) []byte {
	for _, m := range b.metadata {
		dst = appendUvarint(append(dst, tagMetadata), uint64(len(m)))
		dst = append(dst, m...)
	}
	return dst
}

// OnlyMetadata returns a batch with the metadata and without series, which
// shares the buffer.
func (b *Batch) OnlyMetadata() *Batch {
	b.buf.Retain()
	out := newBatch(b.buf, b.data)
	out.metadata = append(out.metadata, b.metadata...)
	return out
}

// Series is one series in wire form: a view into a batch.
type Series struct {
	// Labels are the label fields, tags and lengths included.
	Labels []byte
	// Rest are all other fields.
	Rest []byte
}

// Items counts the items of a series, which has been checked by a scan.
func (s Series) Items() (c Counts) {
	r := ItemReader{B: s.Rest}
	for item, _, ok := r.Next(); ok; item, _, ok = r.Next() {
		switch item {
		case ItemSample:
			c.Samples++
		case ItemHistogram:
			c.Histograms++
		case ItemExemplar:
			c.Exemplars++
		}
	}
	return c
}

// Size returns the number of bytes that the series take.
func (b *Batch) Size() int { return len(b.data) }

// Rejected returns the error of the series that decoding rejected, nil when there
// were none.
func (b *Batch) Rejected(tenant string) error {
	if len(b.rejected.reasons) == 0 {
		return nil
	}
	return b.rejected.Err(tenant, &b.counts)
}
