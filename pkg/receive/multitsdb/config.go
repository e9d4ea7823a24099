package multitsdb

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/receive/remotewrite"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/vfs"
)

// Limits of one tenant; 0 means no limit.
type Limits struct {
	Labels remotewrite.LabelLimits
	// ActiveSeries bounds the series in the head. Series that exist already
	// take samples beyond it.
	ActiveSeries int
}

// Shipper uploads the blocks of one tenant's directory.
type Shipper interface {
	// Sync uploads every new block and returns how many.
	Sync(ctx context.Context) (uploaded int, err error)
	// Shipped says whether a block of the directory is in the bucket.
	Shipped(id ulid.ULID) bool
}

// Config of a DB.
type Config struct {
	// Dir has one directory for each tenant.
	Dir string
	// FS is the file system of everything that is not done by the TSDB itself;
	// nil is that of the operating system.
	FS vfs.FS
	// Retention is how long blocks are kept; 0 is for ever. With a shipper, no
	// block goes before it is uploaded.
	Retention time.Duration
	// TenantRetention returns the current retention of a tenant that has its own;
	// nil means that none has.
	TenantRetention func(tenant string) (time.Duration, bool)
	// MinFreeDisk is how many bytes of the disk stay free: writes are refused below; 0 is none.
	MinFreeDisk int64
	// MaxBytes bounds the blocks of one tenant; 0 means no bound.
	MaxBytes                           int64
	MinBlockDuration, MaxBlockDuration time.Duration
	// OutOfOrderWindow is how far behind the newest sample of a tenant one may
	// be.
	OutOfOrderWindow time.Duration
	OutOfOrderCap    int64
	// FutureWindow bounds how far ahead of the clock the time of a sample, histogram or
	// exemplar may be, and PastWindow how far behind; 0 is no limit but that of the
	// calendar, the years 0 to 9999.
	FutureWindow, PastWindow time.Duration
	MaxExemplars             int64
	// StartTimestamps stores them with the samples, in chunk encodings that
	// older readers do not know.
	StartTimestamps  bool
	WALCompression   bool
	NoLockfile       bool
	WriteQueueSize   int
	SnapshotOnClose  bool
	OpenConcurrency  int
	FlushOnClose     bool
	SyncInterval     time.Duration
	MaintainInterval time.Duration
	// IdleTimeout is after how long without a write or query a tenant whose samples
	// are all in blocks is closed, until the next write or query.
	IdleTimeout time.Duration

	// External returns the external labels of a tenant's data, the tenant's own
	// label included.
	External func(tenant string) labels.Labels
	// Limits returns the current limits of a tenant.
	Limits func(tenant string) Limits
	// MaxTenants returns the number of tenants from which on no other is added; 0
	// is no limit, and so is a nil function.
	MaxTenants func() int
	// NewShipper makes the shipper of a tenant; nil means that blocks stay.
	NewShipper func(tenant, dir string, external func() labels.Labels) Shipper
}

// setDefaults replaces missing functions and unusable durations and counts by their
// defaults.
func (c *Config) setDefaults() {
	if c.FS == nil {
		c.FS = vfs.OS()
	}
	if c.External == nil {
		c.External = func(string) labels.Labels { return labels.EmptyLabels() }
	}
	if c.Limits == nil {
		c.Limits = func(string) Limits { return Limits{} }
	}
	if c.MaxTenants == nil {
		c.MaxTenants = func() int { return 0 }
	}
	if c.MinBlockDuration <= 0 {
		c.MinBlockDuration = 2 * time.Hour
	}
	if c.MaxBlockDuration < c.MinBlockDuration {
		c.MaxBlockDuration = c.MinBlockDuration
	}
	if c.OpenConcurrency <= 0 {
		c.OpenConcurrency = 2
	}
	if c.SyncInterval <= 0 {
		c.SyncInterval = 30 * time.Second
	}
	if c.IdleTimeout <= 0 {
		c.IdleTimeout = time.Hour
	}
	if c.MaintainInterval <= 0 {
		c.MaintainInterval = time.Minute
	}
}

var (
	errSeriesLimit = errors.New("the tenant is at its limit")
	errLeaving     = fmt.Errorf("the node is leaving and takes no more writes: %w", remotewrite.ErrNotReady)
	errLogFailed   = errors.New("a record could not be written")
	errReopening   = errors.New("it is being opened again after its write-ahead log could not be written")
	errNotOpened   = fmt.Errorf("%w: the storage is closed or not open yet", storeapi.ErrNotReady)
	errClosed      = fmt.Errorf("the storage is closed or not open yet: %w", remotewrite.ErrNotReady)
)
