package bucketblock

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// damage are the damaged items that a Select leaves out.
type damage struct {
	lost     map[string]int // by part
	warnings storeapi.Warnings
	reported bool // Query.Failed has made one of them the error of the set
	ignore   bool // leave out and do not report
}

// leaveOut reports that a series or a chunk is damaged, so that the answer goes without
// it. An error ends the set: that of Query.Failed, or err when it is another failure
// than damage.
func (r *reader) leaveOut(part string, err error) error {
	err = r.b.fail(part, err)
	var failure *Error
	if !errors.As(err, &failure) || !failure.Corrupt || r.q.Failed == nil {
		return err
	}
	if r.damage.ignore {
		return nil
	}
	if r.damage.lost == nil {
		r.damage.lost = map[string]int{}
	}
	r.damage.lost[part]++
	if r.damage.lost[part] > 1 {
		return nil
	}
	ws, err := r.q.Failed(failure)
	r.damage.warnings = append(r.damage.warnings, ws...)
	r.damage.reported = err != nil
	return err
}

// lostWarnings says how much more than the first item of each part is missing.
func (r *reader) lostWarnings() (ws storeapi.Warnings) {
	for part, n := range r.damage.lost {
		if n > 1 {
			ws = append(ws, storeapi.Warning{Text: fmt.Sprintf("block %s: %d damaged %s are missing", r.b.meta.ULID, n, strings.ReplaceAll(part, "_", " "))})
		}
	}
	slices.SortFunc(ws, func(a, b storeapi.Warning) int { return strings.Compare(a.Text, b.Text) })
	return ws
}
