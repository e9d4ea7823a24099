package compact

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/bucket"
)

// blocksAnswer is what /api/v1/blocks tells.
type blocksAnswer struct {
	Label       string        `json:"label"`
	Blocks      []*block.Meta `json:"blocks"`
	RefreshedAt time.Time     `json:"refreshedAt"`
	Err         *string       `json:"err"`
	// Quarantined gives the reason for each block that no job takes any more.
	Quarantined map[string]string `json:"quarantined,omitempty"`
}

// RegisterHTTP adds /api/v1/blocks and /api/v1/blocks/mark.
func (c *Compactor) RegisterHTTP(mux *http.ServeMux) {
	mux.HandleFunc("GET /api/v1/blocks", c.serveBlocks)
	mux.HandleFunc("POST /api/v1/blocks/mark", c.serveMark)
}

// serveBlocks lists the blocks that the last look at the bucket has seen.
func (c *Compactor) serveBlocks(w http.ResponseWriter, _ *http.Request) {
	a := blocksAnswer{Label: c.cfg.BlockLabel, Blocks: []*block.Meta{}}
	if v := c.seen.Load(); v != nil {
		a.RefreshedAt = v.Taken
		for _, m := range v.Metas {
			a.Blocks = append(a.Blocks, m)
		}
		slices.SortFunc(a.Blocks, func(x, y *block.Meta) int { return x.ULID.Compare(y.ULID) })
	}
	a.Quarantined = map[string]string{}
	for id, reason := range c.quarantined.reasons() {
		a.Quarantined[id.String()] = reason
	}
	c.respond(w, http.StatusOK, map[string]any{"status": "success", "data": a})
}

func (c *Compactor) respond(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	if err := json.NewEncoder(w).Encode(body); err != nil {
		c.log.Debug("answer could not be sent", "err", err)
	}
}

func (c *Compactor) refuse(w http.ResponseWriter, code int, kind, text string) {
	c.respond(w, code, map[string]any{"status": "error", "errorType": kind, "error": text})
}

// maxDetail bounds the text in a mark, in bytes.
const maxDetail = 4 << 10

// exists says whether the bucket has a block of that name, also one that cannot
// be used. It asks the bucket, since the last look may be old.
func (c *Compactor) exists(ctx context.Context, id ulid.ULID) (bool, error) {
	found := errors.New("found")
	err := c.bkt.List(ctx, id.String(), func(bucket.Object) error { return found })
	if errors.Is(err, found) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for block %s: %w", id, err)
	}
	return false, nil
}

// serveMark marks a block.
func (c *Compactor) serveMark(w http.ResponseWriter, r *http.Request) {
	if c.cfg.DisableAdmin {
		c.refuse(w, http.StatusBadRequest, "bad_data", "administration is disabled")
		return
	}
	id, err := ulid.ParseStrict(r.PostFormValue("id"))
	if err != nil {
		c.refuse(w, http.StatusBadRequest, "bad_data", "id is not the name of a block")
		return
	}
	detail := r.PostFormValue("detail")
	if len(detail) > maxDetail {
		c.refuse(w, http.StatusBadRequest, "bad_data", fmt.Sprintf("detail is longer than %d bytes", maxDetail))
		return
	}
	if known, err := c.exists(r.Context(), id); err != nil {
		c.refuse(w, http.StatusInternalServerError, "internal", err.Error())
		return
	} else if !known {
		c.refuse(w, http.StatusNotFound, "not_found", fmt.Sprintf("there is no block %s in the bucket", id))
		return
	}
	switch action := r.PostFormValue("action"); action {
	case "DELETION":
		_, err = block.MarkDeletion(r.Context(), c.bkt, id, detail, time.Now())
	case "NO_COMPACTION":
		_, err = block.MarkNoCompact(r.Context(), c.bkt, id, block.Cause{Reason: block.MarkManual, Details: detail}, time.Now())
	default:
		c.refuse(w, http.StatusBadRequest, "bad_data", "action is neither DELETION nor NO_COMPACTION")
		return
	}
	if err != nil {
		c.refuse(w, http.StatusInternalServerError, "internal", err.Error())
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
