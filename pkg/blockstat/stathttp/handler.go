package stathttp

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocklist"
	"github.com/hindsight-io/hindsight/pkg/blockstat"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/errorid"
)

// Bounds of one answer.
const (
	maxBlocks     = 100
	maxIndexBytes = 512 << 20
	maxTime       = 2 * time.Minute
	maxRows       = 1000
	// maxCached is how many answers are kept: blocks do not change.
	maxCached = 16
)

// Handler answers a GET with the rows of one block, parameter id, or without it of the
// newest raw block of each source. It reads the indexes of these blocks from the bucket,
// for one request at a time. It may be used concurrently.
type Handler struct {
	bkt  bucket.Reader
	view func() *blocklist.View
	turn chan struct{}

	mu     sync.Mutex
	cached map[string]*answer
	order  []string // keys of cached, the oldest first
}

// New returns a handler for the blocks of a view; view returns nil before the first
// listing of the bucket.
func New(bkt bucket.Reader, view func() *blocklist.View) *Handler {
	return &Handler{bkt: bkt, view: view, turn: make(chan struct{}, 1), cached: map[string]*answer{}}
}

// answer is the data of a response.
type answer struct {
	// Blocks are those whose indexes were read, of IndexBytes in all.
	Blocks     []ulid.ULID `json:"blocks"`
	IndexBytes int64       `json:"indexBytes"`
	// Sources is the number of sources, and Omitted the number of those whose newest
	// block is too much for one answer. Both are 0 for one block.
	Sources int `json:"sources"`
	Omitted int `json:"omitted"`
	// Unreadable counts the blocks of sources whose index could not be read; Error is that
	// of the first one.
	Unreadable int             `json:"unreadable"`
	Error      string          `json:"error,omitempty"`
	Rows       []blockstat.Row `json:"rows"`
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	limit, err := strconv.Atoi(cmp.Or(r.FormValue("limit"), "20"))
	if err != nil || limit < 1 || limit > maxRows {
		errorid.AnswerJSON(w, http.StatusBadRequest, "bad_data", "", fmt.Sprintf("limit %q is not a number from 1 to %d", r.FormValue("limit"), maxRows))
		return
	}
	v := h.view()
	if v == nil {
		errorid.AnswerJSON(w, http.StatusServiceUnavailable, "unavailable", errorid.NotReady, "the bucket has not been listed yet")
		return
	}
	var a answer
	if text := r.FormValue("id"); text != "" {
		id, err := ulid.ParseStrict(text)
		if err != nil || v.Metas[id] == nil {
			errorid.AnswerJSON(w, http.StatusNotFound, "not_found", "", "there is no complete block with this id in the last listing of the bucket")
			return
		}
		a.Blocks = []ulid.ULID{id}
	} else {
		a = newest(v)
	}
	for _, id := range a.Blocks {
		a.IndexBytes += max(v.Sizes[id][block.IndexFile], 0)
	}
	if a.IndexBytes > maxIndexBytes {
		errorid.AnswerJSON(w, http.StatusUnprocessableEntity, "bad_data", "", fmt.Sprintf("the index has %d bytes, more than the %d that a page reads; run: hindsight tools block analyze %s", a.IndexBytes, maxIndexBytes, a.Blocks[0]))
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), maxTime)
	defer cancel()
	found, err := h.rows(ctx, v, a, limit)
	if err != nil {
		code := http.StatusInternalServerError
		if errors.Is(err, context.DeadlineExceeded) {
			code = http.StatusServiceUnavailable
		}
		errorid.AnswerJSON(w, code, "internal", errorid.Of(err), err.Error())
		return
	}
	respond(w, http.StatusOK, map[string]any{"status": "success", "data": found})
}

// newest chooses the newest raw block of each source, those with the newest samples first,
// as far as the bounds allow. Blocks that are marked for deletion are left out.
func newest(v *blocklist.View) answer {
	last := map[string]*block.Meta{}
	for id, m := range v.Metas {
		source := labels.FromMap(m.Thanos.Labels).String()
		if v.Deletion[id] == nil && m.Thanos.Downsample.Resolution == 0 && (last[source] == nil || later(m, last[source]) < 0) {
			last[source] = m
		}
	}
	all := make([]*block.Meta, 0, len(last))
	for _, m := range last {
		all = append(all, m)
	}
	slices.SortFunc(all, later)
	a := answer{Blocks: []ulid.ULID{}, Sources: len(all)}
	bytes := int64(0)
	for _, m := range all {
		size := max(v.Sizes[m.ULID][block.IndexFile], 0)
		if len(a.Blocks) == maxBlocks || bytes+size > maxIndexBytes {
			a.Omitted++
			continue
		}
		bytes += size
		a.Blocks = append(a.Blocks, m.ULID)
	}
	return a
}

// later orders blocks by the end of their times, the latest first.
func later(a, b *block.Meta) int {
	return cmp.Or(cmp.Compare(b.MaxTime, a.MaxTime), b.ULID.Compare(a.ULID))
}

// rows reads the indexes of the blocks of an answer, unless it is known.
func (h *Handler) rows(ctx context.Context, v *blocklist.View, a answer, limit int) (*answer, error) {
	key := fmt.Sprint(a.Blocks, a.Sources, a.Omitted, limit)
	if known := h.known(key); known != nil {
		return known, nil
	}
	select {
	case h.turn <- struct{}{}:
		defer func() { <-h.turn }()
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for the indexes of another request: %w", ctx.Err())
	}
	if known := h.known(key); known != nil {
		return known, nil
	}
	report := blockstat.New(blockstat.Config{Metrics: true, Labels: true, Pairs: true})
	for _, id := range a.Blocks {
		err := report.Add(ctx, h.bkt, v.Metas[id], v.Sizes[id])
		switch {
		case err == nil:
		case a.Sources == 0 || ctx.Err() != nil:
			return nil, err
		default:
			a.Unreadable++
			a.Error = cmp.Or(a.Error, err.Error())
		}
	}
	a.Rows = report.Rows(limit)
	if a.Unreadable > 0 {
		return &a, nil // the next request tries them again
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.order) == maxCached {
		delete(h.cached, h.order[0])
		h.order = h.order[1:]
	}
	h.cached[key], h.order = &a, append(h.order, key)
	return &a, nil
}

func (h *Handler) known(key string) *answer {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.cached[key]
}

func respond(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	// An error means that the client has gone.
	_ = json.NewEncoder(w).Encode(body)
}
