package receive

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/hindsight-io/hindsight/pkg/errorid"
	"github.com/hindsight-io/hindsight/pkg/receive/multitsdb"
)

// downscale is the state of the preparation for removal of this node.
type downscale struct {
	// running is held by the request that prepares.
	running sync.Mutex

	mu    sync.Mutex
	since time.Time // zero when it is not prepared
}

// departure reports whether the node may be removed.
type departure struct {
	multitsdb.Unshipped
	// Prepared is true from a successful POST until a DELETE or a restart: the node
	// refuses writes, and has no data that is not in the bucket.
	Prepared bool `json:"prepared"`
	// Timestamp is when it was prepared, in Unix seconds; 0 when it is not.
	Timestamp int64 `json:"timestamp"`
}

func (r *Receive) departure() departure {
	r.downscale.mu.Lock()
	since := r.downscale.since
	r.downscale.mu.Unlock()
	d := departure{Unshipped: r.db.Unshipped()}
	if !since.IsZero() {
		d.Prepared, d.Timestamp = true, since.Unix()
	}
	return d
}

func (d *downscale) set(since time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if since.IsZero() || d.since.IsZero() {
		d.since = since
	}
}

// prepareDownscale leaves the hashring, if its members are discovered, refuses further
// writes, writes heads to blocks and uploads them. The answer is 200 when all data is in
// the bucket: the node may be removed, and refuses writes until a DELETE. Otherwise it
// takes writes again, as the caller may not retry: 503 lists what is left, 500 has the
// error.
func (r *Receive) prepareDownscale(w http.ResponseWriter, req *http.Request) {
	r.downscale.running.Lock()
	defer r.downscale.running.Unlock()
	left, err := r.depart(req.Context())
	if err == nil && left == (multitsdb.Unshipped{}) {
		answer(w, r.departure())
		return
	}
	r.resume(req.Context())
	if err != nil {
		errorid.AnswerError(w, http.StatusInternalServerError, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set(errorid.Header, errorid.NotReady.String())
	w.WriteHeader(http.StatusServiceUnavailable)
	_ = json.NewEncoder(w).Encode(departure{Unshipped: left})
}

// depart leaves the ring for good, and returns the data that is not in the bucket then.
// Reads go on. The caller holds running.
func (r *Receive) depart(ctx context.Context) (left multitsdb.Unshipped, err error) {
	if err := r.leaveRing(ctx); err != nil {
		return left, err
	}
	r.db.SetLeaving(true)
	err = r.db.Flush(ctx, "")
	left = r.db.Unshipped()
	if err == nil && left == (multitsdb.Unshipped{}) {
		r.downscale.set(time.Now())
		r.logger.Info("prepared for removal")
	}
	return left, err
}

// leaveRing announces that this node leaves, and waits until all peers have asked for
// its state. From then on they send it no writes, and it forwards those that clients
// send to it. It does nothing when a file lists the members: then others have changed
// the file before.
func (r *Receive) leaveRing(ctx context.Context) error {
	if r.membership == nil || r.membership.departing.Swap(true) {
		return nil
	}
	_ = r.membership.update(ctx, false) // a failure is reported, and does not keep the node
	select {
	case <-ctx.Done():
		return fmt.Errorf("leave the hashring: %w", ctx.Err())
	case <-time.After(2*r.cfg.MembersInterval.Duration() + askTimeout):
		return nil
	}
}

// Bounds of the work before a stop. The process has to get more time than both.
const (
	departTimeout = 8 * time.Minute
	hintsTimeout  = time.Minute
)

// PrepareStop ships everything while the node still serves, when its StatefulSet has
// been scaled down so that its pod will not come back: heads to the bucket, hints to
// their peers. It does nothing before a restart.
func (r *Receive) PrepareStop(ctx context.Context) {
	if r.membership == nil || r.Ready() != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, departTimeout)
	defer cancel()
	_ = r.membership.update(ctx, true) // a failure is reported
	if !r.membership.scaledDown() {
		return
	}
	r.downscale.running.Lock()
	defer r.downscale.running.Unlock()
	if r.departure().Prepared {
		return
	}
	r.logger.Info("scaled down; leaving the hashring")
	if r.bucket == nil {
		r.logger.Warn("samples of this node stay on its volume, because there is no bucket")
	}
	left, err := r.depart(ctx)
	if err != nil || left != (multitsdb.Unshipped{}) {
		r.logger.Error("samples not uploaded; they stay on the volume of this node", "series", left.Series, "blocks", left.Blocks, "err", err)
	}
	r.awaitHints(ctx)
}

// awaitHints waits until the peers have the hints that this node holds for them.
func (r *Receive) awaitHints(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, hintsTimeout)
	defer cancel()
	for {
		left := int64(0)
		for _, p := range r.writer.Peers() {
			left += p.HintBytes + p.WaitingBytes
		}
		if left == 0 {
			return
		}
		select {
		case <-ctx.Done():
			r.logger.Warn("hints not delivered; a quorum has their samples", "bytes", left)
			return
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// cancelDownscale takes writes again. It may be called twice.
func (r *Receive) cancelDownscale(w http.ResponseWriter, req *http.Request) {
	r.downscale.running.Lock()
	defer r.downscale.running.Unlock()
	r.resume(req.Context())
	answer(w, r.departure())
}

// resume takes writes again, and returns to the ring.
func (r *Receive) resume(ctx context.Context) {
	r.downscale.set(time.Time{})
	r.db.SetLeaving(false)
	if r.membership != nil && r.membership.departing.Swap(false) {
		_ = r.membership.update(context.WithoutCancel(ctx), false) // a failure is reported
	}
}
