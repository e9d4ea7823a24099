package lifecycle

import "time"

// State is what a tenant is in. The zero value is Absent.
type State uint8

// The states of a tenant.
const (
	// Absent has no directory on this node. There may be metadata of its metrics.
	Absent State = iota
	// Opening is a tenant whose TSDB is being opened.
	Opening
	// Open has a TSDB in memory.
	Open
	// Closing is a tenant whose TSDB is being closed or whose directory is being
	// deleted.
	Closing
	// Idle has only blocks on the disk; its TSDB is closed.
	Idle
	// Failed is a tenant whose TSDB could not be opened.
	Failed
)

var stateNames = [...]string{"absent", "opening", "open", "closing", "idle", "failed"}

// String returns the name of the state.
func (s State) String() string { return stateNames[s] }

// Purpose is why a tenant is closed. The zero value is ForIdle.
type Purpose uint8

// The purposes of a closing.
const (
	// ForIdle closes the TSDB of a tenant that is not used.
	ForIdle Purpose = iota
	// ForRemoval closes the TSDB, if it is open, and deletes the directory.
	ForRemoval
	// ForShutdown closes the TSDB at the end of the process.
	ForShutdown
	// ForReopening closes the TSDB to open it again from its log.
	ForReopening
)

// Extent is what is known of the samples of a tenant that is not open. The zero
// value is NoSamples.
type Extent uint8

// The extents.
const (
	// NoSamples: the tenant has never been on this node.
	NoSamples Extent = iota
	// Within: all samples are in Tenant.Range.
	Within
	// Unknown: the directory was found at the start and has not been opened yet.
	// There may be samples of any time.
	Unknown
)

// Range is a range of time in Unix milliseconds, both ends included. It is empty
// when Min is after Max.
type Range struct{ Min, Max int64 }

func (r Range) overlaps(o Range) bool { return r.Min <= o.Max && o.Min <= r.Max }

// The pause after a tenant could not be opened doubles with each failure.
const (
	FirstPause = time.Second
	MaxPause   = time.Minute
)

// Tenant is the state of one tenant, and the values that belong to it.
type Tenant struct {
	State   State
	Purpose Purpose // of Closing
	// Extent and Range are of a tenant that is not open.
	Extent Extent
	Range  Range
	// Epoch counts the openings. The result of a check that was made in an
	// earlier epoch is stale.
	Epoch int
	// Described says that there is metadata of the tenant's metrics, which is
	// kept while the tenant is absent.
	Described bool

	// Failures counts the openings that failed since the last that did not, and
	// Err is the error of the latest. It is not tried again before RetryAt.
	Failures int
	RetryAt  time.Time
	Err      error
}

// Busy says whether an effect is being carried out, whose end others wait for.
func (t Tenant) Busy() bool { return t.State == Opening || t.State == Closing }

// hasSamplesIn says whether a tenant that is not open may have samples in r.
func (t Tenant) hasSamplesIn(r Range) bool {
	return t.Extent == Unknown || t.Extent == Within && t.Range.overlaps(r)
}

// Kind is the kind of an event.
type Kind uint8

// The events. The first group are demands of callers, the second results of
// checks, the third results of effects.
const (
	// Write: samples are to be stored.
	Write Kind = iota
	// Query: samples of Event.Range are asked for.
	Query
	// Metadata: metadata of metrics is to be kept.
	Metadata
	// Found: the tenant's directory was found at the start.
	Found
	// Shutdown: the process ends.
	Shutdown

	// IdleCheckPassed: the open tenant has not been used for the idle timeout, and
	// all its samples are in blocks that are where they have to be.
	IdleCheckPassed
	// Expired: all blocks of the tenant are past the retention.
	Expired
	// LogFailed: the log of the open tenant could not be written, and can be written
	// again. Until the tenant is opened again its head may have what the log lacks.
	LogFailed
	// Maintenance: blocks of an idle tenant can be deleted, which its TSDB does
	// when it is open; or it is time to look at a failed tenant.
	Maintenance

	// Opened: the TSDB is open.
	Opened
	// OpenFailed: the TSDB could not be opened, because of Event.Err.
	OpenFailed
	// Busy: the TSDB was not closed, as it was used again since the check.
	Busy
	// Closed: the TSDB is closed; its samples are in Event.Range.
	Closed
	// CloseFailed: the TSDB is gone, but closing it had the error Event.Err.
	CloseFailed
	// Removed: the directory is deleted.
	Removed
	// RemoveFailed: the directory could not be deleted, because of Event.Err.
	RemoveFailed

	kinds // the number of events
)

var kindNames = [kinds]string{
	"write", "query", "metadata", "found", "shutdown", "idle-check-passed", "expired", "log-failed", "maintenance",
	"opened", "open-failed", "busy", "closed", "close-failed", "removed", "remove-failed",
}

// String returns the name of the event.
func (k Kind) String() string { return kindNames[k] }

// Event is something that happens to a tenant.
type Event struct {
	Kind Kind
	// Now is the time of the event.
	Now time.Time
	// NotReady says that the node is starting or stopping: it takes no writes and
	// opens no tenant for a query.
	NotReady bool
	// Range is the one of a Query, and of the samples with Closed and CloseFailed.
	Range Range
	// Tenants is how many tenants count against MaxTenants, for Write and
	// Metadata. A MaxTenants of 0 is no limit.
	Tenants, MaxTenants int
	// Epoch is the epoch in which the check of IdleCheckPassed, Expired, LogFailed or
	// Maintenance was made.
	Epoch int
	// Err is the error of an event that is a failure.
	Err error
}

func (e Event) full() bool { return e.MaxTenants > 0 && e.Tenants >= e.MaxTenants }

// Do is what an effect consists of.
type Do uint8

// The effects.
const (
	// Serve the demand from the open TSDB.
	Serve Do = iota
	// AnswerEmpty answers a query with nothing: there are no such samples.
	AnswerEmpty
	// KeepMetadata stores the metadata.
	KeepMetadata
	// Wait until the opening or closing has ended, and apply the demand again.
	Wait
	// Refuse the demand for Effect.Reason.
	Refuse
	// OpenTSDB, then apply Opened or OpenFailed.
	OpenTSDB
	// CloseTSDB: with ForIdle and ForRemoval if it is still unused, otherwise in any
	// case. Then apply Closed, CloseFailed or Busy.
	CloseTSDB
	// RemoveDirectory, then apply Removed or RemoveFailed.
	RemoveDirectory
	// Log Effect.Text.
	Log
	// Unexpected: the event cannot occur in this state. The state is unchanged.
	Unexpected
)

// Reason is why a demand is refused.
type Reason uint8

// The reasons.
const (
	// NotReady: the node is starting or stopping.
	NotReady Reason = iota
	// TooManyTenants: the tenant would be new, and the node is at its limit.
	TooManyTenants
	// CannotBeOpened: the last opening failed with Effect.Err; the next attempt is
	// made in Effect.RetryAfter at the earliest.
	CannotBeOpened
	// BeingReopened: the TSDB is being closed, after the queries under way, to open it
	// again from its log.
	BeingReopened
)

// Level is the level of a log line.
type Level uint8

// The levels.
const (
	Debug Level = iota
	Info
	Error
)

// Effect is something to carry out.
type Effect struct {
	Do         Do
	Reason     Reason        // of Refuse
	RetryAfter time.Duration // of Refuse and Log, 0 is none
	Level      Level         // of Log
	Text       string        // of Log
	Err        error         // of Refuse and Log
}

// Next returns the state that an event leads to, and the effects in their order.
// At most one of them is not a Log.
func (t Tenant) Next(e Event) (Tenant, []Effect) {
	switch e.Kind {
	case Write:
		return t.write(e)
	case Query:
		return t.query(e)
	case Metadata:
		return t.metadata(e)
	case Found:
		return t.found()
	case Shutdown:
		return t.shutdown()
	case IdleCheckPassed:
		return t.idleCheckPassed(e)
	case Expired:
		return t.expired(e)
	case LogFailed:
		return t.logFailed(e)
	case Maintenance:
		return t.maintenance(e)
	case Opened, OpenFailed:
		return t.afterOpen(e)
	case Busy, Closed, CloseFailed:
		return t.afterClose(e)
	case Removed, RemoveFailed:
		return t.afterRemove(e)
	}
	return t.unexpected()
}

func just(d Do) []Effect { return []Effect{{Do: d}} }

func logged(l Level, text string) Effect { return Effect{Do: Log, Level: l, Text: text} }

func (t Tenant) unexpected() (Tenant, []Effect) { return t, just(Unexpected) }
