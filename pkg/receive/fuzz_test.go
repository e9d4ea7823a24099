package receive

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
	"golang.org/x/sync/semaphore"

	"github.com/hindsight-io/hindsight/pkg/receive/multitsdb"
	"github.com/hindsight-io/hindsight/pkg/receive/remotewrite"
)

// Each OTLP request that is decoded becomes series within the bounds.
func FuzzOTLP(f *testing.F) {
	for _, temporality := range []pmetric.AggregationTemporality{pmetric.AggregationTemporalityCumulative, pmetric.AggregationTemporalityDelta} {
		proto, err := otlpRequest(temporality).MarshalProto()
		if err != nil {
			f.Fatal(err)
		}
		text, err := otlpRequest(temporality).MarshalJSON()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(proto, false)
		f.Add(text, true)
	}
	for _, c := range otlpBodies(f, time.UnixMilli(1_700_000_000_000)) {
		md := pmetric.NewMetrics()
		c.fill(md)
		if raw, err := pmetricotlp.NewExportRequestFromMetrics(md).MarshalProto(); err == nil && len(raw) < 10_000 {
			f.Add(raw, false)
		}
	}
	const limit = 1 << 20
	f.Fuzz(func(t *testing.T, data []byte, isJSON bool) {
		r := &Receive{cfg: DefaultConfig(), db: multitsdb.New(multitsdb.Config{}, slog.New(slog.DiscardHandler), nil)}
		r.cfg.MaxRequestBytes = 8 * limit
		contentType := "application/x-protobuf"
		if isJSON {
			contentType = "application/json"
		}
		memory := &share{total: semaphore.NewWeighted(64 * limit)}
		defer memory.free()
		msg, _, err := readOTLP(http.Header{"Content-Type": {contentType}}, data, limit, memory)
		if err != nil {
			return
		}
		batch, _, err := r.translate(httptest.NewRequest(http.MethodPost, "/", nil), msg, limit)
		if err != nil {
			return
		}
		defer batch.Close()
		if batch.Size() > 8*limit {
			t.Fatalf("%d bytes of series", batch.Size())
		}
		var lb remotewrite.LabelBuilder
		for i := range batch.Len() {
			s := batch.Series(i)
			ls, err := lb.Build(s.Labels, remotewrite.LabelLimits{})
			if err == nil && !bytes.Equal(remotewrite.AppendLabels(nil, ls), s.Labels) {
				t.Fatalf("%s is written otherwise", ls)
			}
			if err == nil && labels.Labels.IsEmpty(ls) {
				t.Fatal("a series without labels")
			}
		}
	})
}
