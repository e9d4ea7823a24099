package lease

import "time"

// record is the content of a lease.
type record struct {
	Version int `json:"version"`
	// Name is the group that the lease is for.
	Name string `json:"name"`
	// Owner is the identity of the compactor that has the lease, empty after a release.
	Owner string `json:"owner,omitempty"`
	// Host is the machine of the last owner, for people.
	Host string `json:"host"`
	// Epoch counts the ownerships, from 1.
	Epoch uint64 `json:"epoch"`
	// WorkedUntil is when the last owner released the lease, by the clock of the bucket, in
	// milliseconds; 0 when it did not. A listing that began later has its results.
	WorkedUntil int64 `json:"worked_until,omitempty"`
	// Nonce makes each content unique.
	Nonce string `json:"nonce"`
}

// beat is the content of a heartbeat.
type beat struct {
	Version int    `json:"version"`
	Owner   string `json:"owner"`
	Host    string `json:"host"`
	// Count grows with each write of one process, which Process identifies.
	Count   uint64 `json:"count"`
	Process string `json:"process"`
	// LeaseMillis is the lease time of the owner: the silence after which others may take
	// its leases.
	LeaseMillis int64 `json:"lease_ms"`
	// Working says that the process has found itself alone, on a bucket without conditional
	// writes.
	Working bool `json:"working,omitempty"`
}

// sighting is the heartbeat of an owner and when this process first saw it.
type sighting struct {
	process string
	count   uint64
	since   time.Duration
	// changed says that another heartbeat was seen before.
	changed bool
}

// watch remembers the heartbeats of other owners. Times are those of the monotonic clock
// of this process, since any moment.
type watch map[string]sighting

// see records the current heartbeat of an owner, nil if it has none, and returns how long
// it has been the same.
func (w watch) see(now time.Duration, owner string, b *beat) time.Duration {
	s := sighting{since: now}
	if b != nil {
		s.process, s.count = b.Process, b.Count
	}
	last, seen := w[owner]
	if seen && last.process == s.process && last.count == s.count {
		return now - last.since
	}
	s.changed = seen
	w[owner] = s
	return 0
}

// MaxDuration is the longest lease time. A heartbeat that names a longer one counts as this.
const MaxDuration = time.Hour

// silent says whether an owner that has had one heartbeat for so long has lost its leases.
// own is the lease time of this process. The longer of both counts, since the owner counts
// on its own.
func silent(same time.Duration, b *beat, own time.Duration) bool {
	need := own
	if b != nil {
		theirs := min(max(b.LeaseMillis, 0), MaxDuration.Milliseconds()) // any program may have written it
		need = max(need, time.Duration(theirs)*time.Millisecond)
	}
	return same >= need
}

// decision is what a process may do with a lease.
type decision string

const (
	create   decision = "create"    // it does not exist
	take     decision = "take"      // its last owner has released it
	adopt    decision = "adopt"     // it is of this compactor before a restart
	takeOver decision = "take over" // its owner is silent
	busy     decision = "busy"      // its owner is alive, or not yet silent for long enough
)

// decide is the state machine of a lease, whose record is nil while it does not exist.
func decide(r *record, me string, dead func(owner string) bool) decision {
	switch {
	case r == nil:
		return create
	case r.Owner == "":
		return take
	case r.Owner == me:
		return adopt
	case dead(r.Owner):
		return takeOver
	}
	return busy
}

// next is the record of the next ownership.
func next(r *record, name, me, host, nonce string) *record {
	n := &record{Version: formatVersion, Name: name, Owner: me, Host: host, Epoch: 1, Nonce: nonce}
	if r != nil {
		n.Epoch = r.Epoch + 1
	}
	return n
}

// fresh says whether a listing that began at listed, by the clock of the bucket, has all
// results of earlier owners. Those of an owner that did not release its lease have no time.
func fresh(r *record, listed time.Time) bool {
	return r == nil || r.Owner == "" && r.WorkedUntil < listed.UnixMilli()
}

// verdict is what a compactor does about another one on a bucket without conditional
// writes.
type verdict string

const (
	await  verdict = "await"  // the other one may have ended, or gives way
	ignore verdict = "ignore" // it has ended, or has to give way
	refuse verdict = "refuse" // this one must not run
)

// judge is the state machine of compactors on a bucket without conditional writes. The one
// that works stays; of two that start, or that both work, the one with the smaller identity
// does. alive says that the heartbeat of the other one has changed, dead that it has been
// the same for the lease time; other is nil if it has no heartbeat any more.
func judge(me, other *beat, alive, dead bool) verdict {
	first := me.Owner < other.owner()
	if other != nil && me.Working != other.Working {
		first = me.Working
	}
	switch {
	case other == nil || dead || first && me.Working:
		return ignore
	case !alive || first:
		return await
	}
	return refuse
}

func (b *beat) owner() string {
	if b == nil {
		return ""
	}
	return b.Owner
}
