package lease

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/errorid"
	"github.com/hindsight-io/hindsight/pkg/vfs"
)

// Errors of leases; test with errors.Is.
var (
	// errHeld says that another compactor has the lease; see HeldError.
	errHeld = errors.New("lease is held by another compactor")
	// ErrStale says that a lease is free, but that another compactor may have worked since
	// the listing: the caller lists again.
	ErrStale = errorid.Sentinel(errorid.LeaseLost, "another compactor has worked since the listing")
	// ErrLost says that another compactor has taken the lease over.
	ErrLost = errorid.Sentinel(errorid.LeaseLost, "lease was taken over by another compactor")
	// ErrConflict says that another compactor runs on a bucket without conditional writes.
	ErrConflict = errorid.Sentinel(errorid.LeaseConflict, "another compactor runs on the bucket")
)

// HeldError names the owner of a lease; it says that another compactor has a lease.
type HeldError struct {
	Name, Owner, Host string
}

func (e *HeldError) Error() string {
	return fmt.Sprintf("lease of %s is held by compactor %s on %s", e.Name, e.Owner, e.Host)
}

// ErrorID returns the id of the error.
func (e *HeldError) ErrorID() errorid.ID { return errorid.LeaseConflict }

// Is makes the error an errHeld.
func (e *HeldError) Is(target error) bool { return target == errHeld }

const (
	// leaseDir and beatDir hold the objects. Their names are not those of blocks, so that
	// other readers of the bucket ignore them.
	leaseDir = "hindsight/leases"
	beatDir  = "hindsight/compactors"

	formatVersion = 1
	// maxObject bounds the size of a lease and of a heartbeat.
	maxObject = 64 << 10
	// closeTimeout bounds the last writes of a process.
	closeTimeout = 10 * time.Second
	// beatsPerLease is how often an owner writes its heartbeat in a lease time, so that
	// some may fail.
	beatsPerLease = 4
	// minCertain is the least time for a write that follows a check of a lease.
	minCertain = 10 * time.Second
	// forgetAfter is the silence, in lease times, after which a heartbeat is deleted.
	forgetAfter = 10
)

// Config configures a Manager.
type Config struct {
	Bucket bucket.Bucket
	// Duration is the lease time: the silence after which others take over.
	Duration time.Duration
	// IDFile keeps the identity of the compactor, so that it takes up its own leases after
	// a restart. It lies in the data directory, which no other process uses. Empty is for a
	// process that is not started again.
	IDFile string
	// Disabled gives every lease at once and writes nothing.
	Disabled bool
	// Logger must not be nil.
	Logger *slog.Logger
	// Registerer may be nil.
	Registerer prometheus.Registerer
}

// Manager takes leases and writes the heartbeat of one compactor. Its methods may be called
// concurrently.
type Manager struct {
	cfg     Config
	cond    bucket.Conditional
	process string
	host    string
	started time.Time // of the monotonic clock

	held            prometheus.Gauge
	taken, lost     prometheus.Counter
	failedHeartbeat prometheus.Counter

	joining chan struct{} // has a value while Join or Close runs
	probed  bool
	stop    context.CancelFunc // not nil while the heartbeat is running
	done    chan struct{}

	mu       sync.Mutex
	id       string
	single   bool // the bucket has no conditional writes
	working  bool // see beat
	count    uint64
	beaten   time.Time // when the last heartbeat that was written was begun
	conflict error
	leases   map[string]*Lease
	watch    watch
}

// New makes a Manager. It reads and writes nothing before Join.
func New(cfg Config) *Manager {
	f := promauto.With(cfg.Registerer)
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return &Manager{
		cfg: cfg, cond: bucket.Conditions(cfg.Bucket), process: ulid.Make().String(), host: host, started: time.Now(),
		leases: map[string]*Lease{}, watch: watch{}, joining: make(chan struct{}, 1),
		held: f.NewGauge(prometheus.GaugeOpts{
			Name: "hindsight_compact_leases_held",
			Help: "Groups of the bucket that this compactor works on now.",
		}),
		taken: f.NewCounter(prometheus.CounterOpts{
			Name: "hindsight_compact_leases_taken_over_total",
			Help: "Leases of other compactors that this one took because their heartbeat had ended.",
		}),
		lost: f.NewCounter(prometheus.CounterOpts{
			Name: "hindsight_compact_leases_lost_total",
			Help: "Leases that another compactor took over while this one worked.",
		}),
		failedHeartbeat: f.NewCounter(prometheus.CounterOpts{
			Name: "hindsight_compact_heartbeat_failures_total",
			Help: "Heartbeats that could not be written to the bucket.",
		}),
	}
}

// now is the monotonic clock of the process.
func (m *Manager) now() time.Duration { return time.Since(m.started) }

// Join starts the heartbeat unless it is running. On a bucket without conditional writes
// it waits until it knows that no other compactor runs, for up to some lease times; it
// returns ErrConflict if one does. After another error it may be called again. Close ends
// the heartbeat.
func (m *Manager) Join(ctx context.Context) error {
	if m.cfg.Disabled {
		return nil
	}
	select {
	case m.joining <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-m.joining }()
	if m.stop != nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.conflict
	}
	if err := m.prepare(ctx); err != nil {
		return err
	}
	if err := m.beat(ctx); err != nil {
		return err
	}
	if m.isSingle() {
		if err := m.settle(ctx); err != nil {
			m.leave(ctx)
			return err
		}
	}
	bctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	m.stop, m.done = cancel, make(chan struct{})
	go func() {
		defer close(m.done)
		m.keepBeating(bctx)
	}()
	return nil
}

// prepare finds the identity, and whether the bucket has conditional writes.
func (m *Manager) prepare(ctx context.Context) error {
	m.mu.Lock()
	known := m.probed
	m.mu.Unlock()
	if known {
		return nil
	}
	id, err := ulid.Make().String(), error(nil)
	if m.cfg.IDFile != "" {
		id, err = identity(m.cfg.IDFile)
	}
	if err != nil {
		return err
	}
	err = bucket.ProbeConditions(ctx, m.cfg.Bucket, leaseDir)
	if err != nil && !errors.Is(err, bucket.ErrNoConditions) {
		return err
	}
	if err != nil {
		m.cfg.Logger.Warn("bucket has no conditional writes: a single compactor may run on it", "err", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.id, m.single, m.probed = id, err != nil, true
	return nil
}

func (m *Manager) isSingle() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.single
}

// validID is the form of an identity, which is part of a name of an object.
var validID = regexp.MustCompile(`^[0-9A-Z]{26}$`)

// identity reads the identity in a file, or makes one and writes the file.
func identity(file string) (string, error) {
	b, err := os.ReadFile(file)
	if id := strings.TrimSpace(string(b)); err == nil && validID.MatchString(id) {
		return id, nil
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("read the identity of the compactor: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o777); err != nil {
		return "", fmt.Errorf("make the directory for the identity of the compactor: %w", err)
	}
	id := ulid.Make().String()
	err = vfs.WriteFile(vfs.OS(), file, 0o644, func(w io.Writer) error {
		_, err := io.WriteString(w, id+"\n")
		return err
	})
	if err != nil {
		return "", fmt.Errorf("write the identity of the compactor: %w", err)
	}
	return id, nil
}

// Close releases all leases and ends the heartbeat. A Manager that was closed may join
// again.
func (m *Manager) Close(ctx context.Context) {
	m.joining <- struct{}{}
	defer func() { <-m.joining }()
	if m.stop == nil {
		return
	}
	m.stop()
	<-m.done
	m.stop = nil
	m.leave(ctx)
}

// leave releases the leases and deletes the heartbeat. A lease that cannot be released
// needs the heartbeat: without one, others wait from the time at which they miss it.
func (m *Manager) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	m.releaseLeft(ctx)
	m.mu.Lock()
	m.working = false
	name := beatName(m.id)
	m.mu.Unlock()
	if err := m.cfg.Bucket.Delete(ctx, name); err != nil {
		m.cfg.Logger.Warn("cannot delete heartbeat", "err", err)
	}
}

// releaseLeft releases the leases that no job uses and whose release failed.
func (m *Manager) releaseLeft(ctx context.Context) {
	m.mu.Lock()
	all := make([]*Lease, 0, len(m.leases))
	for _, l := range m.leases {
		all = append(all, l)
	}
	m.mu.Unlock()
	for _, l := range all {
		l.mu.Lock()
		if l.refs == 0 && l.unreleased {
			l.release(ctx)
		}
		l.mu.Unlock()
	}
}

// encode is the content of an object.
func encode(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return append(b, '\n'), nil
}

// readRecord returns the record of a lease, nil if it does not exist.
func (m *Manager) readRecord(ctx context.Context, object string) (*record, bucket.Version, error) {
	b, v, err := m.cond.GetVersion(ctx, object, maxObject)
	if errors.Is(err, bucket.ErrNotFound) {
		return nil, bucket.NoVersion, nil
	}
	if err != nil {
		return nil, bucket.NoVersion, fmt.Errorf("read lease: %w", err)
	}
	var r record
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, bucket.NoVersion, fmt.Errorf("read lease %s: %w; delete the object if no compactor of a later version wrote it", object, err)
	}
	if r.Version != formatVersion {
		return nil, bucket.NoVersion, fmt.Errorf("read lease %s: version is %d, known is %d", object, r.Version, formatVersion)
	}
	return &r, v, nil
}

// readSettled is readRecord until two reads in a row agree. A server that keeps the version apart
// from the content can answer with the old content and the version of a write under way: a
// process that believed it would overwrite a lease that has just been given to another one.
func (m *Manager) readSettled(ctx context.Context, object string) (*record, bucket.Version, error) {
	r, at, err := m.readRecord(ctx, object)
	for range settleReads {
		if err != nil {
			break
		}
		again, atAgain, errAgain := m.readRecord(ctx, object)
		if errAgain == nil && at == atAgain && sameRecord(r, again) {
			return r, at, nil
		}
		r, at, err = again, atAgain, errAgain
	}
	if err == nil {
		err = fmt.Errorf("read lease %s: it changes with each read", object)
	}
	return nil, bucket.NoVersion, err
}

// settleReads is how often a lease that changes while it is read is read again.
const settleReads = 5

func sameRecord(a, b *record) bool {
	return a == nil && b == nil || a != nil && b != nil && a.Nonce == b.Nonce
}

func beatName(id string) string { return beatDir + "/" + id + ".json" }

// readBeat returns the heartbeat of an owner, nil if it has none.
func (m *Manager) readBeat(ctx context.Context, owner string) (*beat, error) {
	b, err := bucket.ReadAll(ctx, m.cfg.Bucket, beatName(owner), maxObject)
	if errors.Is(err, bucket.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read heartbeat: %w", err)
	}
	var b2 beat
	if err := json.Unmarshal(b, &b2); err != nil {
		return nil, fmt.Errorf("read heartbeat of %s: %w", owner, err)
	}
	return &b2, nil
}

// upload writes an object without a condition.
func (m *Manager) upload(ctx context.Context, name string, v any) error {
	b, err := encode(v)
	if err != nil {
		return err
	}
	return m.cfg.Bucket.Upload(ctx, name, bytes.NewReader(b), int64(len(b)))
}

func nonce() string { return rand.Text() }
