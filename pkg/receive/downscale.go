package receive

import (
	"encoding/json"
	"net/http"
	"sync"
	"time"

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

// prepareDownscale refuses further writes, writes heads to blocks and uploads them.
// The answer is 200 when all data is in the bucket: the node may be removed, and
// refuses writes until a DELETE. Otherwise it takes writes again, as the caller may
// not retry: 503 lists what is left, 500 has the error.
func (r *Receive) prepareDownscale(w http.ResponseWriter, req *http.Request) {
	r.downscale.running.Lock()
	defer r.downscale.running.Unlock()
	r.db.SetLeaving(true)
	err := r.db.Flush(req.Context(), "")
	left := r.db.Unshipped()
	if err == nil && left == (multitsdb.Unshipped{}) {
		r.downscale.set(time.Now())
		r.logger.Info("prepared for removal")
		answer(w, r.departure())
		return
	}
	r.resume()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusServiceUnavailable)
	_ = json.NewEncoder(w).Encode(departure{Unshipped: left})
}

// cancelDownscale takes writes again. It may be called twice.
func (r *Receive) cancelDownscale(w http.ResponseWriter, _ *http.Request) {
	r.downscale.running.Lock()
	defer r.downscale.running.Unlock()
	r.resume()
	answer(w, r.departure())
}

func (r *Receive) resume() {
	r.downscale.set(time.Time{})
	r.db.SetLeaving(false)
}
