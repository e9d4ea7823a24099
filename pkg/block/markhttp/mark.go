// Package markhttp serves the HTTP API that marks blocks of a bucket, and makes the part
// of a list of blocks that says which are marked.
package markhttp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/errorid"
)

// Handler marks a block for deletion or against compaction: a POST with the form
// values id, action (DELETION or NO_COMPACTION) and detail. It answers 204, or an
// error in JSON: 400 for wrong values and when it is disabled, 404 for a block
// that the bucket does not have.
type Handler struct {
	Bucket bucket.Bucket
	// Disabled refuses everything.
	Disabled bool
}

// ServeHTTP implements http.Handler.
func (h Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h.Disabled {
		errorid.AnswerJSON(w, http.StatusBadRequest, "bad_data", errorid.AdminDisabled, "administration is disabled by --disable-admin-operations")
		return
	}
	id, err := ulid.ParseStrict(r.PostFormValue("id"))
	if err != nil {
		errorid.AnswerJSON(w, http.StatusBadRequest, "bad_data", "", "id is not the name of a block")
		return
	}
	detail := cmp.Or(r.PostFormValue("detail"), r.PostFormValue("details"))
	if len(detail) > maxDetail {
		errorid.AnswerJSON(w, http.StatusBadRequest, "bad_data", "", fmt.Sprintf("detail is longer than %d bytes", maxDetail))
		return
	}
	var mark func(context.Context) error
	switch r.PostFormValue("action") {
	case "DELETION":
		mark = func(ctx context.Context) error {
			_, err := block.MarkDeletion(ctx, h.Bucket, id, detail, time.Now())
			return err
		}
	case "NO_COMPACTION":
		mark = func(ctx context.Context) error {
			_, err := block.MarkNoCompact(ctx, h.Bucket, id, block.Cause{Reason: block.MarkManual, Details: detail}, time.Now())
			return err
		}
	default:
		errorid.AnswerJSON(w, http.StatusBadRequest, "bad_data", "", "action is neither DELETION nor NO_COMPACTION")
		return
	}
	switch known, err := h.exists(r.Context(), id); {
	case err != nil:
		errorid.AnswerJSON(w, http.StatusInternalServerError, "internal", errorid.Of(err), err.Error())
		return
	case !known:
		errorid.AnswerJSON(w, http.StatusNotFound, "not_found", "", "the bucket has no block "+id.String())
		return
	}
	if err := mark(r.Context()); err != nil {
		errorid.AnswerJSON(w, http.StatusInternalServerError, "internal", errorid.Of(err), err.Error())
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// maxDetail bounds the text in a mark, in bytes.
const maxDetail = 4 << 10

// exists says whether the bucket has any object of the block. A partial block, without
// meta.json, may be marked too.
func (h Handler) exists(ctx context.Context, id ulid.ULID) (bool, error) {
	found := errors.New("found")
	err := h.Bucket.List(ctx, id.String(), func(bucket.Object) error { return found })
	if errors.Is(err, found) {
		return true, nil
	}
	return false, err
}
