package receive

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/storage/remote/otlptranslator/prometheusremotewrite"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"

	"github.com/hindsight-io/hindsight/pkg/receive/remotewrite"
	"github.com/hindsight-io/hindsight/pkg/tenant"
)

// handleOTLP takes one OTLP metrics request.
func (r *Receive) handleOTLP(w http.ResponseWriter, req *http.Request) {
	began := time.Now()
	n, err := r.writeOTLP(w, req)
	code := http.StatusOK
	if err != nil {
		code = r.respond(w, req, err)
	}
	r.metrics.requests.WithLabelValues(strconv.Itoa(code)).Inc()
	r.metrics.duration.Observe(time.Since(began).Seconds())
	r.metrics.samples.Add(float64(n.Samples + n.Histograms))
}

func (r *Receive) writeOTLP(w http.ResponseWriter, req *http.Request) (remotewrite.Counts, error) {
	var none remotewrite.Counts
	if err := r.Ready(); err != nil {
		return none, &remotewrite.WriteError{Kind: remotewrite.NotReady, Err: err}
	}
	id, err := tenant.FromHTTP(req, r.tenants)
	if err != nil {
		return none, &remotewrite.WriteError{Kind: remotewrite.Invalid, Err: err}
	}
	replica, err := r.replica(req.Header)
	if err != nil {
		return none, err
	}
	body, err := r.readBody(req, id)
	if err != nil {
		return none, r.sizeError(id, err)
	}
	defer body.Release()
	done, err := r.admit(req.Context())
	if err != nil {
		return none, err
	}
	defer done()
	memory := &share{total: r.memory, times: otlpExpansion}
	defer memory.free()
	msg, isJSON, err := readOTLP(req.Header, body.B, r.requestLimit(id), memory)
	if err != nil {
		return none, r.sizeError(id, err)
	}
	batch, err := r.translate(req, msg, r.requestLimit(id))
	if err != nil {
		return none, r.sizeError(id, err)
	}
	defer batch.Close()
	if err := r.checkContent(id, batch.Counts()); err != nil {
		return none, err
	}
	if err := r.distribute(req.Context(), id, batch, replica); err != nil {
		return batch.Counts(), err
	}
	answerOTLP(w, isJSON)
	return batch.Counts(), nil
}

// readOTLP decodes a body. Its size is bounded after decompression too.
func readOTLP(header http.Header, data []byte, limit int64, memory *share) (msg pmetricotlp.ExportRequest, isJSON bool, err error) {
	msg = pmetricotlp.NewExportRequest()
	body := io.Reader(bytes.NewReader(data))
	switch encoding := header.Get("Content-Encoding"); encoding {
	case "":
	case "gzip":
		gz, err := gzip.NewReader(body)
		if err != nil {
			return msg, false, remotewrite.Errorf(remotewrite.Invalid, "decompress the OTLP request: %w", err)
		}
		body = gz
	default:
		return msg, false, remotewrite.Errorf(remotewrite.Invalid, "unsupported content encoding %q: send gzip or none", encoding)
	}
	raw := remotewrite.NewBuffer(64 << 10)
	defer raw.Release()
	if err := readWithin(raw, body, limit, memory); err != nil {
		return msg, false, err
	}
	media, _, err := mime.ParseMediaType(header.Get("Content-Type"))
	switch {
	case err == nil && media == "application/x-protobuf":
		err = msg.UnmarshalProto(raw.B)
	case err == nil && media == "application/json":
		isJSON = true
		err = msg.UnmarshalJSON(raw.B)
	default:
		err = fmt.Errorf("unsupported content type %q: send application/x-protobuf or application/json", header.Get("Content-Type"))
	}
	if err != nil {
		return msg, false, remotewrite.Errorf(remotewrite.Invalid, "OTLP request: %w", err)
	}
	return msg, isJSON, nil
}

// otlpExpansion is how much memory a request takes, decoded and as series, for
// each byte of it.
const otlpExpansion = 12

// translate makes series of an OTLP request with Prometheus's translator. A
// request with anything that cannot be translated is refused as a whole.
func (r *Receive) translate(req *http.Request, msg pmetricotlp.ExportRequest, limit int64) (*remotewrite.Batch, error) {
	if err := checkAttributes(msg.Metrics()); err != nil {
		return nil, err
	}
	collector := remotewrite.NewCollector(min(8*limit, r.cfg.MaxRequestBytes.Int64()))
	_, err := prometheusremotewrite.NewPrometheusConverter(collector).FromMetrics(req.Context(), msg.Metrics(), prometheusremotewrite.Settings{
		AddMetricSuffixes: true,
		DisableTargetInfo: !r.cfg.OTLP.TargetInfo,
		PromoteResourceAttributes: prometheusremotewrite.NewPromoteResourceAttributes(config.OTLPConfig{
			PromoteResourceAttributes: r.cfg.OTLP.PromoteAttributes.Values(),
		}),
		LabelNameUnderscoreSanitization: true,
		LookbackDelta:                   5 * time.Minute,
	})
	if err != nil {
		var tooLarge *remotewrite.TooLargeError
		if rollback := collector.Rollback(); rollback != nil || errors.As(err, &tooLarge) {
			return nil, errors.Join(err, rollback)
		}
		return nil, remotewrite.Errorf(remotewrite.Invalid, "translate the OTLP request: %w", err)
	}
	return collector.Batch()
}

// answerOTLP writes the empty answer that the protocol wants for success.
func answerOTLP(w http.ResponseWriter, isJSON bool) {
	if isJSON {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, "{}")
		return
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
	w.WriteHeader(http.StatusOK)
}
