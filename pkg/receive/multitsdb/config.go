package multitsdb

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/receive/remotewrite"
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
}

// Config of a DB.
type Config struct {
	// Dir has one directory for each tenant.
	Dir string
	// Retention is how long blocks are kept; 0 is for ever. With a shipper, no
	// block goes before it is uploaded.
	Retention time.Duration
	// TenantRetention returns the retention of a tenant that has its own at this
	// moment; nil means that none has.
	TenantRetention func(tenant string) (time.Duration, bool)
	// MaxBytes bounds the blocks of one tenant; 0 means no bound.
	MaxBytes                           int64
	MinBlockDuration, MaxBlockDuration time.Duration
	// OutOfOrderWindow is how far behind the newest sample of a tenant one may
	// be.
	OutOfOrderWindow time.Duration
	OutOfOrderCap    int64
	// FutureWindow is how far ahead of the clock the time of a sample, histogram or
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
	// IdleTimeout is after how long a tenant that nobody writes to or reads from,
	// and whose samples are all in blocks, is closed until somebody does.
	IdleTimeout time.Duration

	// External returns the external labels of a tenant's data, the tenant's own
	// label included.
	External func(tenant string) labels.Labels
	// Limits returns the limits of a tenant at this moment.
	Limits func(tenant string) Limits
	// MaxTenants is how many tenants there may be at this moment for another one
	// to be added; 0 means no limit, nil that there is none.
	MaxTenants func() int
	// NewShipper makes the shipper of a tenant; nil means that blocks stay.
	NewShipper func(tenant, dir string, external func() labels.Labels) Shipper
}

func (c *Config) setDefaults() {
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
	errLeaving     = fmt.Errorf("the node is being taken away and stores nothing more: %w", remotewrite.ErrNotReady)
	errClosed      = fmt.Errorf("the storage is closed or not open yet: %w", remotewrite.ErrNotReady)
)
