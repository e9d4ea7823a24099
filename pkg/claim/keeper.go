package claim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/vfs"
)

const (
	// missedBeats is the number of heartbeats after which a silent source is gone.
	missedBeats = 3
	// changeWarning is how long a change of the labels is reported.
	changeWarning = 24 * time.Hour
	// churnPeriod and churnChanges make a source one whose labels keep changing.
	churnPeriod  = 14 * 24 * time.Hour
	churnChanges = 3
	// maxPrevious bounds the remembered labels.
	maxPrevious = 8
	// expiry is the age of the last heartbeat after which a claim of another source is
	// deleted.
	expiry = 30 * 24 * time.Hour
	// stopTimeout bounds the last write of a process.
	stopTimeout = 10 * time.Second
)

// Config configures a Keeper.
type Config struct {
	Bucket bucket.Bucket
	// File holds the identity of the source; it is in the data directory, so that
	// it lasts as long as the data.
	File string
	// Directory is the data directory, for people.
	Directory string
	// Labels returns the external labels; while there are none, nothing is claimed.
	Labels func() labels.Labels
	// Interval is the time between two heartbeats.
	Interval time.Duration
	Logger   *slog.Logger
	// Registerer may be nil.
	Registerer prometheus.Registerer
	// FS is the file system of File; nil is that of the operating system.
	FS vfs.FS
}

// Keeper keeps the claim of one source, and watches for others with its labels. Its
// methods may be called concurrently, and Run once.
type Keeper struct {
	cfg   Config
	host  string
	epoch string

	conflicts         prometheus.Gauge
	changes, failures prometheus.Counter

	// The fields up to logged belong to Run.
	id     identity
	loaded bool
	beats  uint64
	// written says that this process has written the claim of the current labels.
	written bool
	others  map[string]*other
	twin    time.Time // when another process last wrote the own claim
	logged  map[string]bool

	mu       sync.Mutex
	warnings []string
}

// other is another source with the same labels.
type other struct {
	claim    Claim
	modified time.Time
	// changed is when its object was last seen to have changed; zero before.
	changed time.Time
}

// NewKeeper makes a Keeper. It reads and writes nothing before Run.
func NewKeeper(cfg Config) *Keeper {
	f := promauto.With(cfg.Registerer)
	if cfg.FS == nil {
		cfg.FS = vfs.OS()
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return &Keeper{
		cfg: cfg, host: host, epoch: ulid.Make().String(), others: map[string]*other{}, logged: map[string]bool{},
		conflicts: f.NewGauge(prometheus.GaugeOpts{
			Name: "hindsight_sidecar_label_conflicts",
			Help: "Other live sources that ship to the bucket with the same external labels.",
		}),
		changes: f.NewCounter(prometheus.CounterOpts{
			Name: "hindsight_sidecar_label_changes_total",
			Help: "Changes of the external labels of this source.",
		}),
		failures: f.NewCounter(prometheus.CounterOpts{
			Name: "hindsight_sidecar_claim_failures_total",
			Help: "Heartbeats of the claim on the external labels that failed.",
		}),
	}
}

// Warnings returns the problems of the external labels, for people.
func (k *Keeper) Warnings() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.warnings
}

// Run renews the claim until ctx is cancelled, and then marks it as stopped.
func (k *Keeper) Run(ctx context.Context) {
	tick := time.NewTicker(k.cfg.Interval)
	defer tick.Stop()
	failed := false
	for ctx.Err() == nil {
		err := k.beat(ctx)
		if err != nil && ctx.Err() == nil {
			k.failures.Inc()
			if !failed {
				k.cfg.Logger.Warn("claim on external labels not renewed", "err", err)
			}
		}
		failed = err != nil
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	if !k.written {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	if err := write(ctx, k.cfg.Bucket, k.claim(true)); err != nil {
		k.cfg.Logger.Warn("claim on external labels not marked as stopped", "err", err)
	}
}

// beat renews the claim and looks for others.
func (k *Keeper) beat(ctx context.Context) error {
	ls := k.cfg.Labels()
	if ls.IsEmpty() {
		return nil
	}
	if !k.loaded {
		var err error
		if k.id, err = loadIdentity(k.cfg.FS, k.cfg.File); err != nil {
			k.cfg.Logger.Warn("identity of the source unreadable, taking a new one", "err", err)
		}
		k.loaded = true
	}
	err := errors.Join(k.adopt(ctx, ls), k.findTwin(ctx))
	if err == nil {
		k.beats++
		err = write(ctx, k.cfg.Bucket, k.claim(false))
	}
	if err == nil {
		k.written = true
		err = k.findOthers(ctx, ls)
	}
	k.report(ls)
	return err
}

// claim returns the claim of this source.
func (k *Keeper) claim(stopped bool) *Claim {
	return &Claim{
		Version: version, Instance: k.id.Instance, Epoch: k.epoch, Beat: k.beats, Labels: k.id.Labels, Since: k.id.Since,
		Heartbeat: time.Now().UTC(), IntervalSeconds: int64(k.cfg.Interval / time.Second), Stopped: stopped,
		Previous: k.id.Previous, Host: k.host, Directory: k.cfg.Directory,
	}
}

// adopt takes the labels as those of the source. If it had others, their claim ends.
func (k *Keeper) adopt(ctx context.Context, ls labels.Labels) error {
	before := labels.FromMap(k.id.Labels)
	if labels.Equal(before, ls) {
		return nil
	}
	now := time.Now().UTC()
	if !before.IsEmpty() {
		ended := k.claim(true)
		if err := write(ctx, k.cfg.Bucket, ended); err != nil {
			return err // and again at the next heartbeat
		}
		k.id.Previous = append([]Previous{{Labels: k.id.Labels, Until: now}}, k.id.Previous...)
		k.id.Previous = k.id.Previous[:min(len(k.id.Previous), maxPrevious)]
		k.changes.Inc()
		k.cfg.Logger.Warn("external labels of this source changed; its older data keeps the previous ones", "previous_label_set", before, "label_set", ls)
	}
	k.id.Labels, k.id.Since = map[string]string{}, now
	ls.Range(func(l labels.Label) { k.id.Labels[strings.Clone(l.Name)] = strings.Clone(l.Value) })
	k.written, k.others, k.twin = false, map[string]*other{}, time.Time{}
	if err := k.id.save(k.cfg.FS, k.cfg.File); err != nil {
		k.cfg.Logger.Warn("identity of the source not saved; after a restart it counts as another source", "err", err)
	}
	return nil
}

// findTwin looks whether another process has written the own claim since this one did:
// its data directory is a copy of this one.
func (k *Keeper) findTwin(ctx context.Context) error {
	if !k.written {
		return nil
	}
	c, err := read(ctx, k.cfg.Bucket, objectOf(labels.FromMap(k.id.Labels), k.id.Instance))
	switch {
	case errors.Is(err, bucket.ErrNotFound), errors.Is(err, bucket.ErrTooLarge), errors.Is(err, errMalformed):
		return nil // the heartbeat replaces it
	case err != nil && ctx.Err() == nil && !bucket.IsTemporary(err):
		return err
	case err == nil && c.Epoch != k.epoch && !c.Stopped:
		k.twin = time.Now()
	}
	return nil
}

// findOthers brings the other claims of the labels up to date, and deletes those whose
// source is gone for long.
func (k *Keeper) findOthers(ctx context.Context, ls labels.Labels) error {
	own := objectOf(ls, k.id.Instance)
	var objects []bucket.Object
	var now time.Time // of the bucket
	err := k.cfg.Bucket.List(ctx, dir+"/"+hash(ls), func(o bucket.Object) error {
		if o.Name == own {
			now = o.LastModified
		} else if len(objects) < maxOthers {
			objects = append(objects, o)
		}
		return nil
	})
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, o := range objects {
		if !now.IsZero() && !o.LastModified.IsZero() && now.Sub(o.LastModified) > expiry {
			if err := k.cfg.Bucket.Delete(ctx, o.Name); err != nil {
				return err
			}
			continue
		}
		seen[o.Name] = true
		if err := k.look(ctx, o); err != nil {
			return err
		}
	}
	maps.DeleteFunc(k.others, func(name string, _ *other) bool { return !seen[name] })
	return nil
}

// look reads another claim if its object changed.
func (k *Keeper) look(ctx context.Context, o bucket.Object) error {
	known := k.others[o.Name]
	if known != nil && !o.LastModified.IsZero() && known.modified.Equal(o.LastModified) {
		return nil
	}
	c, err := read(ctx, k.cfg.Bucket, o.Name)
	if err != nil {
		if errors.Is(err, bucket.ErrNotFound) || errors.Is(err, errMalformed) || !bucket.IsTemporary(err) {
			return nil // removed, or not readable: it warns of nothing
		}
		return err
	}
	switch {
	case known == nil:
		known = &other{}
		k.others[o.Name] = known
	case known.claim.Epoch != c.Epoch || known.claim.Beat != c.Beat:
		known.changed = time.Now()
	}
	known.claim, known.modified = *c, o.LastModified
	return nil
}

// live says whether a source that was seen at a heartbeat still is.
func (k *Keeper) live(at time.Time, interval time.Duration) bool {
	return !at.IsZero() && time.Since(at) <= missedBeats*max(interval, k.cfg.Interval)
}

// report sets warnings and metrics, and logs new warnings.
func (k *Keeper) report(ls labels.Labels) {
	var out []string
	conflicts := 0
	for _, name := range slices.Sorted(maps.Keys(k.others)) {
		o := k.others[name]
		interval := time.Duration(min(o.claim.IntervalSeconds, 3600)) * time.Second
		if o.claim.Stopped || !k.live(o.changed, interval) {
			continue
		}
		conflicts++
		out = append(out, fmt.Sprintf(
			"another source has the same external labels %s: %s; their series and blocks are mixed; give each Prometheus labels of its own, such as a replica label",
			ls, o.claim.where()))
	}
	if k.live(k.twin, k.cfg.Interval) {
		conflicts++
		out = append(out, fmt.Sprintf(
			"another process runs with a copy of the data directory %q and the same external labels %s; delete %s in the copy and give it labels of its own",
			k.cfg.Directory, ls, k.cfg.File))
	}
	k.conflicts.Set(float64(conflicts))
	recent := 0
	for _, p := range k.id.Previous {
		if time.Since(p.Until) < churnPeriod {
			recent++
		}
	}
	switch {
	case recent >= churnChanges:
		out = append(out, fmt.Sprintf(
			"the external labels of this source changed %d times within two weeks; blocks of labels that last less than two days are not merged with others; choose labels that do not change at a restart",
			recent))
	case len(k.id.Previous) > 0 && time.Since(k.id.Previous[0].Until) < changeWarning:
		out = append(out, fmt.Sprintf("the external labels of this source changed from %s to %s at %s; its older data keeps the previous ones",
			labels.FromMap(k.id.Previous[0].Labels), ls, k.id.Previous[0].Until.Format(time.RFC3339)))
	}
	logged := map[string]bool{}
	for _, text := range out {
		if logged[text] = true; !k.logged[text] {
			k.cfg.Logger.Warn("problem with external labels", "details", text)
		}
	}
	for text := range k.logged {
		if !logged[text] {
			k.cfg.Logger.Info("problem with external labels ended", "details", text)
		}
	}
	k.logged = logged
	k.mu.Lock()
	k.warnings = out
	k.mu.Unlock()
}
