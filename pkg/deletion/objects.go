package deletion

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"regexp"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/errorid"
)

// dir holds the requests of a bucket, each in a directory called like its ULID.
// Programs that list blocks ignore it, because the name is no ULID.
const dir = "hindsight/deletions"

// Objects of a request. None of them is ever changed.
const (
	requestFile   = "request.json"
	cancelledFile = "cancelled.json"
	doneFile      = "done.json"
	nodesDir      = "nodes/"
)

// maxRequests bounds the requests of a bucket that are read, oldest first.
const maxRequests = 10_000

// maxNodes bounds the reports of one request.
const maxNodes = 1000

// State is where a request stands.
type State string

// The states of a request.
const (
	// Pending requests hide their samples and can be cancelled.
	Pending State = "pending"
	// Applying requests are made physical.
	Applying State = "applying"
	// Done requests have no copy left in the bucket; they still apply to new uploads.
	Done State = "done"
	// Cancelled requests have no effect.
	Cancelled State = "cancelled"
	// Expired requests have no effect any more.
	Expired State = "expired"
)

// note is the content of cancelled.json and done.json.
type note struct {
	Version int       `json:"version"`
	ID      ulid.ULID `json:"id"`
	Time    time.Time `json:"time"`
	Details string    `json:"details,omitempty"`
}

// RoleStore is the Role of store gateways.
const RoleStore = "store"

// NodeReport is what a receiver says of a request that it has applied, or a store gateway
// of its caches.
type NodeReport struct {
	Version int       `json:"version"`
	ID      ulid.ULID `json:"id"`
	// Node is the name of the receiver or gateway.
	Node string `json:"node"`
	// Role is empty for receivers.
	Role string    `json:"role,omitempty"`
	Time time.Time `json:"time"`
	// Waiting says that the bucket had blocks with the samples, which a gateway may cache.
	Waiting bool `json:"waiting,omitempty"`
	// Tenants are those from whose open TSDBs the samples were deleted, if there were any.
	Tenants []string `json:"tenants,omitempty"`
	// Blocks are local blocks whose bytes still have hidden samples; those of a gateway
	// are in its caches, and it does not serve them.
	Blocks []ulid.ULID `json:"blocks,omitempty"`
}

// Entry is a request in a bucket.
type Entry struct {
	*Compiled
	Cancelled, Done bool
	// Nodes are the objects of the receivers and store gateways that have reported.
	Nodes []string
	// listed is when the listing began that the entry is from.
	listed time.Time
}

// StateAt is the state of the request at a time.
func (e *Entry) StateAt(now time.Time) State {
	switch {
	case e.Cancelled:
		return Cancelled
	case now.After(e.Expires):
		return Expired
	case e.Done:
		return Done
	case now.Before(e.ApplyAfter):
		return Pending
	}
	return Applying
}

// active says whether the samples of the request are hidden at a time.
func (e *Entry) active(now time.Time) bool {
	s := e.StateAt(now)
	return s != Cancelled && s != Expired
}

// Physical says whether samples are deleted for the request at a time: only after a
// listing that began when it could no longer be cancelled.
func (e *Entry) Physical(now time.Time) bool {
	s := e.StateAt(now)
	return (s == Applying || s == Done) && !e.listed.Before(e.ApplyAfter)
}

func nameOf(id ulid.ULID, file string) string { return dir + "/" + id.String() + "/" + file }

// ErrDecided says that a request can no longer be cancelled.
var ErrDecided = errorid.Sentinel(errorid.DeletionDecided, "deletion is already being carried out")

// Put writes a new request.
func Put(ctx context.Context, b bucket.Bucket, r *Compiled) error {
	if err := write(ctx, b, nameOf(r.ID, requestFile), r.Request); err != nil {
		return fmt.Errorf("write deletion request %s: %w", r.ID, err)
	}
	return nil
}

// Get returns a request. Without one it returns bucket.ErrNotFound.
func Get(ctx context.Context, r bucket.Reader, id ulid.ULID) (*Entry, error) {
	e := Entry{listed: time.Now()}
	err := r.List(ctx, dir+"/"+id.String(), func(o bucket.Object) error {
		_, rel, ok := parseName(o.Name)
		if ok {
			e.note(rel)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list deletion request %s: %w", id, err)
	}
	e.Compiled, err = readRequest(ctx, r, id)
	if err != nil {
		return nil, err
	}
	return &e, nil
}

// Cancel ends a pending request. It returns ErrDecided for one whose delay has passed.
func Cancel(ctx context.Context, b bucket.Bucket, id ulid.ULID, details string, now time.Time) error {
	e, err := Get(ctx, b, id)
	if err != nil {
		return err
	}
	switch s := e.StateAt(now); s {
	case Cancelled:
		return nil
	case Pending:
		return writeNote(ctx, b, cancelledFile, note{ID: id, Time: now, Details: details})
	default:
		return fmt.Errorf("cancel deletion request %s: %w: it is %s since %s", id, ErrDecided, s, e.ApplyAfter.Format(time.RFC3339))
	}
}

// MarkDone records that the bucket has no copy left.
func MarkDone(ctx context.Context, b bucket.Bucket, id ulid.ULID, details string, now time.Time) error {
	return writeNote(ctx, b, doneFile, note{ID: id, Time: now, Details: details})
}

func writeNote(ctx context.Context, b bucket.Bucket, file string, n note) error {
	n.Version, n.Time = version, n.Time.UTC()
	if err := write(ctx, b, nameOf(n.ID, file), n); err != nil {
		return fmt.Errorf("write %s of deletion request %s: %w", file, n.ID, err)
	}
	return nil
}

// PutNode writes the report of a node. A later report of the node replaces it.
func PutNode(ctx context.Context, b bucket.Bucket, n NodeReport) error {
	n.Version = version
	if err := write(ctx, b, nameOf(n.ID, nodesDir+nodeFile(n.Node)), n); err != nil {
		return fmt.Errorf("write report of %s on deletion request %s: %w", n.Node, n.ID, err)
	}
	return nil
}

// nodeFile makes an object name of the name of a node.
func nodeFile(node string) string {
	name := regexp.MustCompile(`[^a-zA-Z0-9._-]`).ReplaceAllString(node, "_")
	return strings.Trim(name[:min(len(name), 200)], ".") + ".json"
}

// Nodes reads the reports on a request.
func Nodes(ctx context.Context, r bucket.Reader, e *Entry) ([]NodeReport, error) {
	var out []NodeReport
	for _, name := range e.Nodes {
		data, err := bucket.ReadAll(ctx, r, nameOf(e.ID, nodesDir+name), maxSize)
		if err != nil {
			return nil, fmt.Errorf("read report %s of deletion request %s: %w", name, e.ID, err)
		}
		var n NodeReport
		if err := json.Unmarshal(data, &n); err != nil || n.Version != version || n.ID != e.ID {
			continue // not a report of this program
		}
		out = append(out, n)
	}
	return out, nil
}

func write(ctx context.Context, b bucket.Bucket, name string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	data = append(data, '\n')
	if len(data) > maxSize {
		return fmt.Errorf("%s would have %d bytes, more than %d", name, len(data), maxSize)
	}
	return b.Upload(ctx, name, bytes.NewReader(data), int64(len(data)))
}

func readRequest(ctx context.Context, r bucket.Reader, id ulid.ULID) (*Compiled, error) {
	data, err := bucket.ReadAll(ctx, r, nameOf(id, requestFile), maxSize)
	if err != nil && !errors.Is(err, bucket.ErrTooLarge) {
		return nil, fmt.Errorf("read deletion request %s: %w", id, err)
	}
	if err == nil {
		var c *Compiled
		if c, err = parse(data, id); err == nil {
			return c, nil
		}
	}
	return nil, &invalidError{ID: id, Err: err}
}

// invalidError is about an object that is no request: it is malformed, too large, or of a
// later version.
type invalidError struct {
	ID  ulid.ULID
	Err error
}

func (e *invalidError) Error() string { return e.Err.Error() }

// Unwrap returns the reason.
func (e *invalidError) Unwrap() error { return e.Err }

// parseName splits the name of an object below dir.
func parseName(name string) (id ulid.ULID, rel string, ok bool) {
	rest, found := strings.CutPrefix(name, dir+"/")
	if !found {
		return id, "", false
	}
	text, rel, found := strings.Cut(rest, "/")
	id, err := ulid.ParseStrict(text)
	return id, rel, found && err == nil && id.String() == text
}

// note enters an object of the request.
func (e *Entry) note(rel string) {
	switch node, ok := strings.CutPrefix(rel, nodesDir); {
	case rel == cancelledFile:
		e.Cancelled = true
	case rel == doneFile:
		e.Done = true
	case ok && len(e.Nodes) < maxNodes:
		e.Nodes = append(e.Nodes, node)
	}
}

// Action is what the upload of an object asks for, delete_series or cancel_deletion as in
// audit lines; empty for other objects.
func Action(name string) string {
	if !strings.HasPrefix(name, dir+"/") {
		return ""
	}
	switch path.Base(name) {
	case requestFile:
		return "delete_series"
	case cancelledFile:
		return "cancel_deletion"
	}
	return ""
}
