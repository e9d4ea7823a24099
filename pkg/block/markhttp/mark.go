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
// that the bucket does not have, 409 while a compactor works on the group of the block.
type Handler struct {
	Bucket bucket.Bucket
	// Guard keeps compactors from the block; nil is for a bucket that none works on.
	Guard Guard
	// Disabled refuses everything.
	Disabled bool
}

// Change writes to the bucket that it gets; now is the time by the clock of the bucket, from
// which the delay of a deletion is measured.
type Change func(ctx context.Context, b bucket.Bucket, now time.Time) error

// Guard calls a change of a block while no compactor works on it. The writes of the change
// fail if one may work on it again. The error has the id errorid.LeaseConflict if a compactor
// still works on the block after some seconds.
type Guard func(ctx context.Context, id ulid.ULID, f Change) error

// errUnknown says that the bucket has no object of the block.
var errUnknown = errors.New("no such block")

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
	mark, ok := marking(r.PostFormValue("action"), id, detail)
	if !ok {
		errorid.AnswerJSON(w, http.StatusBadRequest, "bad_data", "", "action is neither DELETION nor NO_COMPACTION")
		return
	}
	switch err := h.guarded(r.Context(), id, mark); {
	case errors.Is(err, errUnknown):
		errorid.AnswerJSON(w, http.StatusNotFound, "not_found", "", "the bucket has no block "+id.String())
		return
	case errorid.Of(err) == errorid.LeaseConflict:
		errorid.AnswerJSON(w, http.StatusConflict, "conflict", errorid.LeaseConflict, err.Error())
		return
	case err != nil:
		errorid.AnswerJSON(w, http.StatusInternalServerError, "internal", errorid.Of(err), err.Error())
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// marking returns the change of an action.
func marking(action string, id ulid.ULID, detail string) (Change, bool) {
	switch action {
	case "DELETION":
		return func(ctx context.Context, b bucket.Bucket, now time.Time) error {
			_, err := block.MarkDeletion(ctx, b, id, detail, now)
			return err
		}, true
	case "NO_COMPACTION":
		return func(ctx context.Context, b bucket.Bucket, now time.Time) error {
			_, err := block.MarkNoCompact(ctx, b, id, block.Cause{Reason: block.MarkManual, Details: detail}, now)
			return err
		}, true
	}
	return nil, false
}

// guarded marks the block if it still exists when no compactor works on it.
func (h Handler) guarded(ctx context.Context, id ulid.ULID, mark Change) error {
	change := func(ctx context.Context, b bucket.Bucket, now time.Time) error {
		switch known, err := h.exists(ctx, id); {
		case err != nil:
			return err
		case !known:
			return errUnknown
		}
		return mark(ctx, b, now)
	}
	if h.Guard == nil {
		return change(ctx, h.Bucket, time.Now())
	}
	// A block that never existed needs no lease, and writes nothing.
	if known, err := h.exists(ctx, id); err != nil || !known {
		return cmp.Or(err, errUnknown)
	}
	return h.Guard(ctx, id, change)
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
