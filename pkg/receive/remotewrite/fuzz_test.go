package remotewrite

import (
	"bytes"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
)

// readAll reads every field of a batch as the storing node does. Label sets that
// the builder accepts must match themselves and survive being written again.
func readAll(t *testing.T, b *Batch) {
	var (
		lb LabelBuilder
		h  Hasher
	)
	h.Reset("tenant")
	for i := range b.Len() {
		s := b.Series(i)
		_, hashErr := h.Hash(s.Labels)
		_ = Text(s.Labels)
		ls, err := lb.Build(s.Labels, LabelLimits{Names: 100, ValueLength: 10_000})
		if err == nil {
			if hashErr != nil {
				t.Fatal("labels that can be built can be hashed")
			}
			if !Matches(AppendLabels(nil, ls), ls) {
				t.Fatalf("%s does not match itself", ls)
			}
			if Matches(s.Labels, labels.FromStrings("__name__", "surely-not-this-one")) {
				t.Fatal("matches another label set")
			}
		}
		items := ItemReader{B: s.Rest}
		for item, msg, ok := items.Next(); ok; item, msg, ok = items.Next() {
			switch item {
			case ItemSample:
				_, _ = ParseSample(msg)
			case ItemHistogram:
				_, _ = ParseHistogram(msg)
			case ItemExemplar:
				_, _ = ParseExemplar(msg)
			case ItemMetadata:
				_, _ = ParseSeriesMetadata(msg)
			}
		}
	}
	for _, m := range b.Metadata() {
		_, _ = ParseMetadata(m)
	}
}

func FuzzScanV1(f *testing.F) {
	raw, err := v1Request().Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte{tagSeries, 4, tagSample, 0, tagLabel, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		buf := bufferOf(data)
		b, err := ScanV1(buf, buf.B)
		var ref prompb.WriteRequest
		if refErr := ref.Unmarshal(data); refErr == nil && err == nil && len(ref.Timeseries) != b.Len() {
			t.Fatalf("%d series, the reference decoder finds %d", b.Len(), len(ref.Timeseries))
		}
		if err != nil {
			return
		}
		readAll(t, b)
		b.Close()
	})
}

func FuzzTranscodeV2(f *testing.F) {
	req := &writev2.Request{
		Symbols: []string{"", "__name__", "a", "help"},
		Timeseries: []writev2.TimeSeries{{
			LabelsRefs: []uint32{1, 2}, Samples: []writev2.Sample{{Value: 1, Timestamp: 2, StartTimestamp: 1}},
			Exemplars: []writev2.Exemplar{{LabelsRefs: []uint32{2, 3}, Timestamp: 5}},
			Metadata:  writev2.Metadata{HelpRef: 3, Type: 1},
		}},
	}
	raw, err := req.Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := TranscodeV2(bufferOf(data), 1<<20)
		if err != nil {
			return
		}
		if len(b.data) > 1<<20 {
			t.Fatalf("%d bytes are above the limit", len(b.data))
		}
		readAll(t, b)
		// The result must be a valid request of version 1.
		buf := bufferOf(b.data)
		again, err := ScanV1(buf, buf.B)
		if err != nil {
			t.Fatal(err)
		}
		if again.Counts() != b.Counts() || !bytes.Equal(again.data, b.data) {
			t.Fatalf("written %+v, read %+v", b.Counts(), again.Counts())
		}
		again.Close()
		b.Close()
	})
}

func FuzzDecompress(f *testing.F) {
	f.Add(s2.EncodeSnappy(nil, []byte("some text")))
	f.Fuzz(func(t *testing.T, data []byte) {
		buf, err := Decompress(data, 1<<16)
		if err != nil {
			return
		}
		if len(buf.B) > 1<<16 {
			t.Fatal("above the limit")
		}
		buf.Release()
	})
}

func FuzzMatches(f *testing.F) {
	f.Add(appendLabel(nil, []byte("__name__"), []byte("x")))
	ls := labels.FromStrings("__name__", "x", "a", "b")
	f.Fuzz(func(t *testing.T, raw []byte) {
		if Matches(raw, ls) {
			var lb LabelBuilder
			got, err := lb.Build(raw, LabelLimits{})
			if err != nil || !labels.Equal(got, ls) {
				t.Fatalf("%q matches %s, but is %s (%v)", raw, ls, got, err)
			}
		}
	})
}
