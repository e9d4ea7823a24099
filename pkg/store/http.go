package store

import (
	"cmp"
	"encoding/json"
	"net/http"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/common/version"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocklist"
	"github.com/hindsight-io/hindsight/pkg/block/markhttp"
	"github.com/hindsight-io/hindsight/pkg/blockstat/stathttp"
	"github.com/hindsight-io/hindsight/pkg/deletion/deletehttp"
	"github.com/hindsight-io/hindsight/pkg/doctor/doctorhttp"
	"github.com/hindsight-io/hindsight/pkg/errorid"
	"github.com/hindsight-io/hindsight/pkg/ui"
)

// RegisterHTTP adds the list of blocks, the marks, and the page of both.
func (g *Gateway) RegisterHTTP(mux *http.ServeMux) {
	if g.cfg.WebDisable {
		return
	}
	mux.HandleFunc("GET /api/v1/blocks", g.listBlocks)
	deletions := deletehttp.Handler{Bucket: g.deps.Marks}
	if g.cfg.DisableAdmin {
		deletions.Disabled = "--disable-admin-operations"
	}
	deletions.Register(mux)
	view := func() *blocklist.View {
		g.mu.RLock()
		defer g.mu.RUnlock()
		return g.blocks.view
	}
	mux.Handle("GET /api/v1/blocks/cardinality", stathttp.New(g.deps.Bucket, view))
	mux.Handle("GET /api/v1/blocks/findings", doctorhttp.New(g.deps.Bucket, view, nil))
	mux.Handle("POST /api/v1/blocks/mark", markhttp.Handler{Bucket: g.deps.Marks, Guard: g.deps.MarkGuard, Disabled: !g.markable()})
	ui.New(ui.Config{Role: "store", Version: version.Version, Pages: []string{"blocks", "status"}}).RegisterPages(mux)
}

// markable reports whether blocks can be marked over HTTP.
func (g *Gateway) markable() bool { return !g.cfg.DisableAdmin && g.deps.Marks != nil }

// apiResponse is the envelope of the answers under /api/v1.
type apiResponse struct {
	Status string `json:"status"`
	Data   any    `json:"data,omitempty"`
}

// blockList is the data of /api/v1/blocks. Thanos has the fields up to err.
type blockList struct {
	Label       string                `json:"label"`
	Blocks      []*block.Meta         `json:"blocks"`
	RefreshedAt time.Time             `json:"refreshedAt"`
	Err         *string               `json:"err"`
	State       map[string]blockState `json:"state,omitempty"`
	markhttp.Details
}

// blockState says whether the gateway serves a block, and why not.
type blockState struct {
	Served      bool   `json:"served"`
	Reason      string `json:"reason,omitempty"`
	HeaderBytes int64  `json:"headerBytes,omitempty"`
	Damaged     string `json:"damaged,omitempty"`
}

// listBlocks lists the blocks that are served (view=loaded), or all blocks of the
// bucket with their states.
func (g *Gateway) listBlocks(w http.ResponseWriter, r *http.Request) {
	g.mu.RLock()
	b := g.blocks
	g.mu.RUnlock()
	list := blockList{Label: g.cfg.BucketWebLabel, Blocks: []*block.Meta{}, State: map[string]blockState{}, Details: markhttp.Describe(b.view, g.markable())}
	if b.view != nil {
		list.RefreshedAt = b.view.Taken
		now := time.Now()
		for id, m := range b.view.Metas {
			served := b.byID[id]
			if served == nil && r.FormValue("view") == "loaded" {
				continue
			}
			list.Blocks = append(list.Blocks, m)
			st := blockState{Served: served != nil, Reason: b.dropped[id], Damaged: g.damage.reason(id, now)}
			if served != nil {
				st.HeaderBytes, _ = served.HeaderLoaded()
			}
			list.State[id.String()] = st
		}
		for id, p := range b.view.Partial {
			if r.FormValue("view") != "loaded" {
				list.State[id.String()] = blockState{Reason: "partial: " + p.Reason.String()}
			}
		}
	}
	slices.SortFunc(list.Blocks, func(a, b *block.Meta) int {
		return cmp.Or(cmp.Compare(a.MinTime, b.MinTime), ulid.ULID.Compare(a.ULID, b.ULID))
	})
	respond(w, http.StatusOK, apiResponse{Status: "success", Data: list})
}

func respond(w http.ResponseWriter, code int, v apiResponse) {
	b, err := json.Marshal(v)
	if err != nil {
		errorid.AnswerError(w, http.StatusInternalServerError, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(b) // an error means that the client has disconnected
}
