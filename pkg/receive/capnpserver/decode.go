package capnpserver

import (
	"unicode/utf8"

	"capnproto.org/go/capnp/v3"
	"github.com/prometheus/prometheus/prompb"

	"github.com/hindsight-io/hindsight/pkg/receive/capnpserver/capnpb"
	"github.com/hindsight-io/hindsight/pkg/receive/remotewrite"
)

// part is the part of a request for one tenant.
type part struct {
	tenant  string
	request prompb.WriteRequest
}

func malformed(err error) error {
	return remotewrite.Errorf(remotewrite.Invalid, "malformed Cap'n Proto write request: %w", err)
}

// decode reads a request of several tenants, or the older form of one. Symbols may
// be used many times: limit bounds their size when they are written out.
func decode(req capnpb.WriteRequest, limit int64) ([]part, error) {
	d := decoder{limit: limit}
	symbols, err := req.Symbols()
	if err != nil {
		return nil, malformed(err)
	}
	if err := d.readSymbols(symbols); err != nil {
		return nil, err
	}
	if req.HasTimeSeries() {
		series, err := req.TimeSeries()
		if err != nil {
			return nil, malformed(err)
		}
		tenant, err := req.Tenant()
		if err != nil {
			return nil, malformed(err)
		}
		p, err := d.part(tenant, series)
		return []part{p}, err
	}
	data, err := req.Data()
	if err != nil {
		return nil, malformed(err)
	}
	var out []part
	for i := range data.Len() {
		if err := d.take(64); err != nil {
			return nil, err
		}
		tuple := data.At(i)
		tenant, err := tuple.Tenant()
		if err != nil {
			return nil, malformed(err)
		}
		series, err := tuple.TimeSeries()
		if err != nil {
			return nil, malformed(err)
		}
		p, err := d.part(tenant, series)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

type decoder struct {
	symbols []string
	limit   int64
	size    int64 // of what was written out so far, in bytes
}

// take fails when n more bytes are too many.
func (d *decoder) take(n int) error {
	if d.size += int64(n); d.size > d.limit {
		return &remotewrite.TooLargeError{Size: d.size, Limit: d.limit, What: "the Cap'n Proto request with its symbols written out"}
	}
	return nil
}

// readSymbols cuts the data at the offsets, which say where each symbol ends.
func (d *decoder) readSymbols(s capnpb.Symbols) error {
	data, err := s.Data()
	if err != nil {
		return malformed(err)
	}
	ends, err := s.Offsets()
	if err != nil {
		return malformed(err)
	}
	all, start := string(data), uint32(0)
	if err := d.take(16 * ends.Len()); err != nil {
		return err
	}
	d.symbols = make([]string, ends.Len())
	for i := range d.symbols {
		end := ends.At(i)
		if end < start || uint64(end) > uint64(len(all)) {
			return remotewrite.Errorf(remotewrite.Invalid, "malformed Cap'n Proto write request: symbol %d ends at %d of %d bytes", i, end, len(all))
		}
		d.symbols[i], start = all[start:end], end
	}
	return nil
}

func (d *decoder) part(tenant string, list capnpb.TimeSeries_List) (part, error) {
	p := part{tenant: tenant}
	if !utf8.ValidString(tenant) {
		return p, remotewrite.Errorf(remotewrite.Invalid, "the tenant %q is not UTF-8", tenant)
	}
	for i := range list.Len() {
		s, err := d.series(list.At(i))
		if err != nil {
			return p, err
		}
		p.request.Timeseries = append(p.request.Timeseries, s)
	}
	return p, nil
}

// series decodes one series. Before it allocates labels, samples, histograms or
// exemplars it takes their estimated size from the limit of the request, because a
// Cap'n Proto message can announce far more items than it has bytes. The result
// shares no memory with the message.
func (d *decoder) series(in capnpb.TimeSeries) (out prompb.TimeSeries, err error) {
	labels, err := in.Labels()
	if err != nil {
		return out, malformed(err)
	}
	if out.Labels, err = d.labels(labels); err != nil {
		return out, err
	}
	samples, err := in.Samples()
	if err != nil {
		return out, malformed(err)
	}
	if err := d.take(32 * samples.Len()); err != nil {
		return out, err
	}
	for i := range samples.Len() {
		s := samples.At(i)
		out.Samples = append(out.Samples, prompb.Sample{Timestamp: s.Timestamp(), Value: s.Value()})
	}
	histograms, err := in.Histograms()
	if err != nil {
		return out, malformed(err)
	}
	if err := d.take(128 * histograms.Len()); err != nil {
		return out, err
	}
	for i := range histograms.Len() {
		h, err := d.histogram(histograms.At(i))
		if err != nil {
			return out, err
		}
		out.Histograms = append(out.Histograms, h)
	}
	exemplars, err := in.Exemplars()
	if err != nil {
		return out, malformed(err)
	}
	if err := d.take(64 * (1 + exemplars.Len())); err != nil {
		return out, err
	}
	for i := range exemplars.Len() {
		e := exemplars.At(i)
		labels, err := e.Labels()
		if err != nil {
			return out, malformed(err)
		}
		x := prompb.Exemplar{Value: e.Value(), Timestamp: e.Timestamp()}
		if x.Labels, err = d.labels(labels); err != nil {
			return out, err
		}
		out.Exemplars = append(out.Exemplars, x)
	}
	return out, nil
}

func (d *decoder) labels(list capnpb.Label_List) ([]prompb.Label, error) {
	if err := d.take(40 * list.Len()); err != nil {
		return nil, err
	}
	out := make([]prompb.Label, list.Len())
	for i := range out {
		l := list.At(i)
		name, value := uint64(l.Name()), uint64(l.Value())
		if n := uint64(len(d.symbols)); name >= n || value >= n {
			return nil, remotewrite.Errorf(remotewrite.Invalid, "label references %d and %d, but the request has %d symbols", name, value, n)
		}
		out[i] = prompb.Label{Name: d.symbols[name], Value: d.symbols[value]}
		if err := d.take(len(out[i].Name) + len(out[i].Value)); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (d *decoder) histogram(in capnpb.Histogram) (out prompb.Histogram, err error) {
	out = prompb.Histogram{
		Sum: in.Sum(), Schema: in.Schema(), ZeroThreshold: in.ZeroThreshold(),
		ResetHint: prompb.Histogram_ResetHint(in.ResetHint()), Timestamp: in.Timestamp(),
	}
	if in.Count().Which() == capnpb.Histogram_count_Which_countFloat {
		out.Count = &prompb.Histogram_CountFloat{CountFloat: in.Count().CountFloat()}
	} else {
		out.Count = &prompb.Histogram_CountInt{CountInt: in.Count().CountInt()}
	}
	if in.ZeroCount().Which() == capnpb.Histogram_zeroCount_Which_zeroCountFloat {
		out.ZeroCount = &prompb.Histogram_ZeroCountFloat{ZeroCountFloat: in.ZeroCount().ZeroCountFloat()}
	} else {
		out.ZeroCount = &prompb.Histogram_ZeroCountInt{ZeroCountInt: in.ZeroCount().ZeroCountInt()}
	}
	r := listReader{d: d}
	out.NegativeSpans, out.PositiveSpans = r.spans(in.NegativeSpans()), r.spans(in.PositiveSpans())
	out.NegativeDeltas, out.PositiveDeltas = r.ints(in.NegativeDeltas()), r.ints(in.PositiveDeltas())
	out.NegativeCounts, out.PositiveCounts = r.floats(in.NegativeCounts()), r.floats(in.PositiveCounts())
	return out, r.err
}

// listReader copies lists; its error is the first.
type listReader struct {
	d   *decoder
	err error
}

func (r *listReader) ready(n int, err error) bool {
	if r.err == nil && err != nil {
		r.err = malformed(err)
	}
	if r.err == nil {
		r.err = r.d.take(16 * n)
	}
	return r.err == nil && n > 0
}

func (r *listReader) spans(list capnpb.BucketSpan_List, err error) (out []prompb.BucketSpan) {
	if r.ready(list.Len(), err) {
		for i := range list.Len() {
			out = append(out, prompb.BucketSpan{Offset: list.At(i).Offset(), Length: list.At(i).Length()})
		}
	}
	return out
}

func (r *listReader) ints(list capnp.Int64List, err error) (out []int64) {
	if r.ready(list.Len(), err) {
		for i := range list.Len() {
			out = append(out, list.At(i))
		}
	}
	return out
}

func (r *listReader) floats(list capnp.Float64List, err error) (out []float64) {
	if r.ready(list.Len(), err) {
		for i := range list.Len() {
			out = append(out, list.At(i))
		}
	}
	return out
}
