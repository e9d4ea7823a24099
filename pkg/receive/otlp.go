package receive

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/storage/remote/otlptranslator/prometheusremotewrite"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"

	"github.com/hindsight-io/hindsight/pkg/errorid"
	"github.com/hindsight-io/hindsight/pkg/reason"
	"github.com/hindsight-io/hindsight/pkg/receive/remotewrite"
)

// handleOTLP serves one OTLP metrics request.
func (r *Receive) handleOTLP(w http.ResponseWriter, req *http.Request) (n remotewrite.Counts, code int, err error) {
	var none remotewrite.Counts
	if err := r.Ready(); err != nil {
		return none, 0, &remotewrite.WriteError{Kind: remotewrite.NotReady, Err: err}
	}
	id, err := r.tenant(req)
	if err != nil {
		return none, 0, err
	}
	replica, err := r.replica(req.Header)
	if err != nil {
		return none, 0, err
	}
	body, err := r.readBody(req, id)
	if err != nil {
		return none, 0, r.sizeError(id, err)
	}
	defer body.Release()
	done, err := r.admit(req.Context())
	if err != nil {
		return none, 0, err
	}
	defer done()
	memory := &share{total: r.memory, times: otlpExpansion, most: r.cfg.MaxInflightBytes.Int64()}
	defer memory.free()
	msg, isJSON, err := readOTLP(req.Header, body.B, r.requestLimit(id), memory)
	if err != nil {
		return none, 0, r.sizeError(id, err)
	}
	batch, sifted, err := r.translate(req, msg, r.requestLimit(id))
	if err != nil {
		return none, 0, r.sizeError(id, err)
	}
	defer batch.Close()
	counts := batch.Counts()
	if err := r.checkContent(id, counts); err != nil {
		return none, 0, err
	}
	err = r.distribute(req.Context(), id, batch, replica)
	answer, err := outcomeOTLP(id, sifted, counts, err)
	if err != nil {
		return counts, 0, err
	}
	answerOTLP(w, isJSON, answer)
	return counts, http.StatusOK, nil
}

// readOTLP decodes a body. Its size is bounded after decompression too.
func readOTLP(header http.Header, data []byte, limit int64, memory *share) (msg pmetricotlp.ExportRequest, isJSON bool, err error) {
	msg = pmetricotlp.NewExportRequest()
	body := io.Reader(bytes.NewReader(data))
	switch encoding := header.Get("Content-Encoding"); strings.ToLower(encoding) {
	case "", "identity":
	case "gzip":
		gz, err := gzip.NewReader(body)
		if err != nil {
			return msg, false, remotewrite.Errorf(remotewrite.Invalid, "decompress the OTLP request: %w", err)
		}
		body = gz
	default:
		return msg, false, unsupported("content encoding of OTLP, which is gzip or none:", encoding)
	}
	raw := remotewrite.NewBuffer(64 << 10)
	defer raw.Release()
	if err := readWithin(raw, body, limit, memory); err != nil {
		return msg, false, err
	}
	media, _, err := mime.ParseMediaType(header.Get("Content-Type"))
	cost, decode := remotewrite.OTLPCost, msg.UnmarshalProto
	switch {
	case err == nil && media == "application/x-protobuf":
	case err == nil && media == "application/json":
		isJSON, cost, decode = true, remotewrite.OTLPJSONCost, msg.UnmarshalJSON
	default:
		return msg, false, unsupported("content type of OTLP, which is application/x-protobuf or application/json:", header.Get("Content-Type"))
	}
	need, err := cost(raw.B)
	if err != nil {
		return msg, false, remotewrite.Errorf(remotewrite.Invalid, "OTLP request: %w", err)
	}
	if err := memory.reach(need); err != nil {
		return msg, false, err
	}
	if err := decode(raw.B); err != nil {
		return msg, false, remotewrite.Errorf(remotewrite.Invalid, "OTLP request: %w", err)
	}
	return msg, isJSON, nil
}

// otlpExpansion is how much memory a request takes, decoded and as series, for
// each byte of it.
const otlpExpansion = 12

// translate makes series of an OTLP request with Prometheus's translator. The
// sifter removes and counts the data points that cannot be translated.
func (r *Receive) translate(req *http.Request, msg pmetricotlp.ExportRequest, limit int64) (*remotewrite.Batch, *sifter, error) {
	s := newSifter(r.db.CheckTime(time.Now()))
	s.sift(msg.Metrics())
	collector := remotewrite.NewCollector(min(8*limit, r.cfg.MaxRequestBytes.Int64()))
	collector.Adjust = s.zeros.adjust
	_, err := prometheusremotewrite.NewPrometheusConverter(collector).FromMetrics(req.Context(), msg.Metrics(), prometheusremotewrite.Settings{
		AddMetricSuffixes: true,
		DisableTargetInfo: !r.cfg.OTLP.TargetInfo,
		PromoteResourceAttributes: prometheusremotewrite.NewPromoteResourceAttributes(config.OTLPConfig{
			PromoteResourceAttributes: r.cfg.OTLP.PromoteAttributes.Values(),
		}),
		LabelNameUnderscoreSanitization:      true,
		LabelNamePreserveMultipleUnderscores: s.labelNames.PreserveMultipleUnderscores,
		LookbackDelta:                        5 * time.Minute,
	})
	var tooLarge *remotewrite.TooLargeError
	switch {
	case err == nil:
	case errors.As(err, &tooLarge), req.Context().Err() != nil:
		return nil, nil, errors.Join(err, collector.Rollback())
	default:
		// The sifter has rejected all known cases; the translator has translated the
		// other metrics.
		s.reject(reason.NotTranslatable, len(joined(err)), err)
	}
	batch, err := collector.Batch()
	return batch, s, err
}

// joined are the errors that err is made of.
func joined(err error) []error {
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		return many.Unwrap()
	}
	return []error{err}
}

// outcomeOTLP returns the answer to a request that was stored in part. Data that can
// never be stored must not make the client retry: the answer is a success that
// counts it, unless nothing of the request was stored.
func outcomeOTLP(id string, s *sifter, n remotewrite.Counts, err error) (pmetricotlp.ExportResponse, error) {
	answer := pmetricotlp.NewExportResponse()
	stored := remotewrite.StoredOf(err, n)
	if kind := remotewrite.KindOf(err); err != nil && kind != remotewrite.Invalid && kind != remotewrite.Conflict {
		return answer, err
	}
	missing := n.Minus(stored)
	// A point may have become several samples; no more points can be missing than
	// there were.
	rejected := s.points + min(missing.Samples+missing.Histograms, s.kept)
	sifted := s.rejected.Err(id, &stored)
	if sifted != nil && err != nil {
		err = fmt.Errorf("%w; and %w", sifted, err)
	} else {
		err = cmp.Or(err, sifted)
	}
	if err == nil {
		return answer, nil
	}
	if stored.Samples+stored.Histograms == 0 && rejected > 0 {
		return answer, &remotewrite.WriteError{
			Kind: remotewrite.KindOf(err), Stored: &stored, Err: fmt.Errorf("%d data points rejected: %w", rejected, err),
		}
	}
	answer.PartialSuccess().SetRejectedDataPoints(int64(rejected))
	answer.PartialSuccess().SetErrorMessage(errorid.Text(err.Error(), errorid.Of(err)))
	return answer, nil
}

// answerOTLP writes the answer of a success, which is empty when all was stored.
func answerOTLP(w http.ResponseWriter, isJSON bool, answer pmetricotlp.ExportResponse) {
	var (
		body []byte
		err  error
	)
	whole := answer.PartialSuccess().RejectedDataPoints() == 0 && answer.PartialSuccess().ErrorMessage() == ""
	contentType := "application/x-protobuf"
	switch {
	case isJSON && whole:
		contentType, body = "application/json", []byte("{}")
	case isJSON:
		contentType = "application/json"
		body, err = answer.MarshalJSON()
	case !whole:
		body, err = answer.MarshalProto()
	}
	w.Header().Set("Content-Type", contentType)
	if err != nil {
		errorid.Answer(w, http.StatusInternalServerError, "", "encode the answer: "+err.Error())
		return
	}
	_, _ = w.Write(body) // an error means that the client has gone
}
