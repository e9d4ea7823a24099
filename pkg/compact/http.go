package compact

import (
	"encoding/json"
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/common/version"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/markhttp"
	"github.com/hindsight-io/hindsight/pkg/blockstat/stathttp"
	"github.com/hindsight-io/hindsight/pkg/deletion/deletehttp"
	"github.com/hindsight-io/hindsight/pkg/doctor/doctorhttp"
	"github.com/hindsight-io/hindsight/pkg/ui"
)

// blocksAnswer is the answer of /api/v1/blocks.
type blocksAnswer struct {
	Label       string        `json:"label"`
	Blocks      []*block.Meta `json:"blocks"`
	RefreshedAt time.Time     `json:"refreshedAt"`
	Err         *string       `json:"err"`
	// Quarantined has the error of each quarantined block.
	Quarantined map[string]string `json:"quarantined,omitempty"`
	markhttp.Details
}

// RegisterHTTP adds the pages and the API.
func (c *Compactor) RegisterHTTP(mux *http.ServeMux) {
	if c.cfg.WebDisable {
		return
	}
	c.RegisterAPI(mux)
	ui.New(ui.Config{Role: "compact", Version: version.Version, Pages: []string{"compaction", "blocks", "status"}}).RegisterPages(mux)
}

// RegisterAPI adds /api/v1/compact/status, /api/v1/blocks, their cardinality,
// the findings of the doctor and the marks, for a process whose pages are those of another role.
func (c *Compactor) RegisterAPI(mux *http.ServeMux) {
	mux.HandleFunc("GET /api/v1/compact/status", c.serveStatus)
	mux.HandleFunc("GET /api/v1/blocks", c.serveBlocks)
	deletehttp.Handler{Bucket: c.bkt, Disabled: c.adminDisabled()}.Register(mux)
	mux.Handle("GET /api/v1/blocks/cardinality", stathttp.New(c.bkt, c.seen.Load))
	mux.Handle("GET /api/v1/blocks/findings", doctorhttp.New(c.bkt, c.seen.Load, c.cfg.ReplicaLabels.Values()))
	mux.Handle("POST /api/v1/blocks/mark", markhttp.Handler{Bucket: c.bkt, Guard: c.markGuard(), Disabled: c.cfg.DisableAdmin})
}

// markGuard keeps this compactor, too, from a block that is marked; nil if leases are off.
func (c *Compactor) markGuard() markhttp.Guard {
	if c.cfg.Leases == leasesNone {
		return nil
	}
	// The bucket of jobs has no conditional writes, by which leases are taken.
	return MarkGuard(c.bkt.(fenced).Bucket, c.bucketTime, c.log)
}

// serveBlocks lists the blocks of the last listing of the bucket.
func (c *Compactor) serveBlocks(w http.ResponseWriter, _ *http.Request) {
	a := blocksAnswer{Label: c.cfg.BlockLabel, Blocks: []*block.Meta{}}
	v := c.seen.Load()
	a.Details = markhttp.Describe(v, !c.cfg.DisableAdmin)
	if v != nil {
		a.RefreshedAt = v.Taken
		for _, m := range v.Metas {
			a.Blocks = append(a.Blocks, m)
		}
		slices.SortFunc(a.Blocks, func(x, y *block.Meta) int { return x.ULID.Compare(y.ULID) })
	}
	a.Quarantined = map[string]string{}
	for id, reason := range c.quarantined.details() {
		a.Quarantined[id.String()] = reason
	}
	c.respond(w, http.StatusOK, map[string]any{"status": "success", "data": a})
}

func (c *Compactor) respond(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	if err := json.NewEncoder(w).Encode(body); err != nil {
		c.log.Debug("cannot send answer", "err", err)
	}
}

// adminDisabled is the flag that forbids changes over HTTP, empty if none does.
func (c *Compactor) adminDisabled() string {
	if c.cfg.DisableAdmin {
		return "--disable-admin-operations"
	}
	return ""
}
