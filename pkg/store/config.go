package store

import (
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/prometheus/prometheus/model/relabel"

	"github.com/hindsight-io/hindsight/pkg/flags"
)

// Config configures the gateway.
type Config struct {
	// DisableAdmin refuses to mark blocks over HTTP.
	DisableAdmin bool
	// WebDisable serves no pages and no API of blocks.
	WebDisable bool

	DataDir          string
	CacheIndexHeader bool
	IndexCacheSize   flags.Bytes
	IndexCache       flags.PathOrContent
	DiskCacheSize    flags.Bytes
	// ColumnCacheSize counts where there is a disk cache.
	ColumnCacheSize flags.Bytes
	ChunkPoolSize   flags.Bytes
	RequestCost     flags.Bytes

	RequestSeries, RequestSamples uint64
	TouchedSeries, SeriesSamples  uint64 // the older names of the two
	DownloadedBytes               flags.Bytes
	MaxConcurrency                int
	// LargeRequests is how many large requests read blocks at one time; 0 means one
	// less than there are cores, and at least one.
	LargeRequests            int
	LargeRequestWait         flags.Duration
	SyncInterval             time.Duration
	BlockDiscovery           string
	BlockSyncConcurrency     int
	MetaFetchConcurrency     int
	MinTime, MaxTime         flags.TimeOrDuration
	ConsistencyDelay         flags.Duration
	IgnoreDeletionMarksDelay flags.Duration
	Selector                 flags.PathOrContent
	LazyPostings             bool
	LazyPostingsRatio        float64
	IndexHeaderIdleTimeout   time.Duration
	BucketWebLabel           string
	// RecoverHeadsAfter is the age at which the head log of a source is recovered; 0
	// means never.
	RecoverHeadsAfter                    flags.Duration
	RecoverHeadsMemory, RecoverHeadsDisk flags.Bytes
	// DeletionsInterval is the pause between two listings of the deletion requests.
	DeletionsInterval flags.Duration

	// Accepted because deployments set them.
	unused unusedFlags
}

// unusedFlags are accepted for compatibility and have no effect: headers are always
// read on first use, and pages have one size.
type unusedFlags struct {
	lazyReader       bool
	lazyDownload     string
	matcherCacheSize int
	webExternal      string
	webPrefixHeader  string
	webDisableCORS   bool
	seriesBatch      int
	maxSeriesSize    uint64
	maxChunkSize     uint64
	offsetSampling   int
	parquet          flags.PathOrContent
	cachingBucket    flags.PathOrContent
}

// DefaultConfig returns the defaults of the flags, for a program that has no
// flags for this role.
func DefaultConfig() Config {
	return Config{
		DataDir: "./data", CacheIndexHeader: true, IndexCacheSize: 32 << 20, DiskCacheSize: 2 << 30, ColumnCacheSize: 512 << 20, ChunkPoolSize: 2 << 30, RequestCost: 512 << 10,
		MaxConcurrency: 20, LargeRequestWait: flags.Duration(2 * time.Minute), SyncInterval: 15 * time.Minute, BlockDiscovery: "concurrent",
		BlockSyncConcurrency: 20, MetaFetchConcurrency: 32,
		MinTime:                  flags.TimeAt(time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC)),
		MaxTime:                  flags.TimeAt(time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)),
		IgnoreDeletionMarksDelay: flags.Duration(24 * time.Hour),
		LazyPostings:             true, LazyPostingsRatio: 100, IndexHeaderIdleTimeout: 5 * time.Minute,
		RecoverHeadsAfter: flags.Duration(time.Hour), RecoverHeadsMemory: 256 << 20, RecoverHeadsDisk: 10 << 30,
		DeletionsInterval: flags.Duration(30 * time.Second),
	}
}

// RegisterFlags adds the gateway's flags.
func (c *Config) RegisterFlags(r flags.Registrar) {
	r.Flag("data-dir", "Directory for index headers and cached pages of blocks; one that another gateway uses is refused.").Default("./data").StringVar(&c.DataDir)
	r.Flag("cache-index-header", "Keep index headers in files under --data-dir; without it they are made again after each start.").Default("true").BoolVar(&c.CacheIndexHeader)
	r.Flag("index-cache-size", "Memory for pages of indexes that are kept for the next query.").Default("32MB").SetValue(&c.IndexCacheSize)
	c.IndexCache.Register(r, "index-cache.config", "the index cache (type IN-MEMORY)", true)
	r.Flag("store.disk-cache-size", "Disk under --data-dir for pages of indexes and chunks that are kept for the next query, also beyond a restart. 0 means none.").Default("2GB").SetValue(&c.DiskCacheSize)
	r.Flag("store.column-cache-size", "Disk under --data-dir for chunks of raw floats in a form that is read and decoded faster: those that queries which are evaluated here have read twice. It is empty after a restart. 0 means none.").Default("512MB").SetValue(&c.ColumnCacheSize)
	r.Flag("chunk-pool-size", "Memory that all running requests together may hold for data of blocks. A request that needs more waits for others, and ends those whose client does not read the answer; it fails when memory is still short. 0 means no limit.").Default("2GB").SetValue(&c.ChunkPoolSize)
	r.Flag("store.request-cost", "Number of bytes whose transfer from the bucket costs as much as one more request: time to the first byte times bandwidth. Smaller gaps between wanted ranges are read along. 0 means never.").Default("512KB").SetValue(&c.RequestCost)
	r.Flag("store.limits.request-series", "Largest number of series of one request; beyond, it fails. 0 means no limit.").Default("0").Uint64Var(&c.RequestSeries)
	r.Flag("store.limits.request-samples", "Largest number of samples of one request, counting 120 for each chunk; beyond, it fails. 0 means no limit.").Default("0").Uint64Var(&c.RequestSamples)
	r.Flag("store.grpc.touched-series-limit", "Older name of --store.limits.request-series.").Default("0").Uint64Var(&c.TouchedSeries)
	r.Flag("store.grpc.series-sample-limit", "Older name of --store.limits.request-samples.").Default("0").Uint64Var(&c.SeriesSamples)
	r.Flag("store.grpc.downloaded-bytes-limit", "Largest number of bytes of blocks that one request may read; beyond, it fails. 0 means no limit.").Default("0").SetValue(&c.DownloadedBytes)
	r.Flag("store.grpc.series-max-concurrency", "Number of requests that may be starting at one time; others wait.").Default("20").IntVar(&c.MaxConcurrency)
	r.Flag("store.large-requests", "Number of requests for series that may read more than 4 MB of blocks at one time; others of that size wait, the tenants in turns, and hold no data meanwhile. Smaller ones pass. 0 means one less than there are cores, and at least one.").Default("0").IntVar(&c.LargeRequests)
	r.Flag("store.large-request-wait", "Longest time that a large request waits for others; then it fails as unavailable.").Default("2m").SetValue(&c.LargeRequestWait)
	r.Flag("sync-block-duration", "Pause between two listings of the bucket.").Default("15m").DurationVar(&c.SyncInterval)
	r.Flag("block-discovery-strategy", flags.Ignored("the bucket is always listed once")).Default("concurrent").EnumVar(&c.BlockDiscovery, "concurrent", "recursive")
	r.Flag("block-sync-concurrency", "Number of index headers that are made at one time.").Default("20").IntVar(&c.BlockSyncConcurrency)
	r.Flag("block-meta-fetch-concurrency", "Number of meta.json files that are read at one time.").Default("32").IntVar(&c.MetaFetchConcurrency)
	r.Flag("min-time", "Serve samples from this time on: a time (RFC 3339), or a duration relative to now such as -30d.").Default("0000-01-01T00:00:00Z").SetValue(&c.MinTime)
	r.Flag("max-time", "Serve samples up to this time: a time (RFC 3339), or a duration relative to now such as -6h.").Default("9999-12-31T23:59:59Z").SetValue(&c.MaxTime)
	r.Flag("consistency-delay", "Exclude blocks that are younger than this, except for those of compactors.").Default("0s").SetValue(&c.ConsistencyDelay)
	r.Flag("ignore-deletion-marks-delay", "Serve blocks for this long after they were marked for deletion.").Default("24h").SetValue(&c.IgnoreDeletionMarksDelay)
	c.Selector.Register(r, "selector.relabel-config", "relabelling that chooses blocks by their external labels and __block_id (actions keep, drop, hashmod)", true)
	r.Flag("store.enable-lazy-expanded-postings", "Filter series instead of reading postings that cost more than they save.").Default("true").BoolVar(&c.LazyPostings)
	r.Flag("store.posting-group-max-key-series-ratio", "Filter series when a matcher would test more than this many label values for each series; 0 means no limit.").Default("100").Float64Var(&c.LazyPostingsRatio)
	r.Flag("bucket-web-label", "External label by which the list of blocks is grouped.").StringVar(&c.BucketWebLabel)
	r.Flag("web.disable", "Serve no web pages and no list of blocks.").Default("false").BoolVar(&c.WebDisable)
	r.Flag("disable-admin-operations", "Refuse to mark blocks over HTTP.").Default("false").BoolVar(&c.DisableAdmin)
	r.Flag("store.index-header-lazy-reader-idle-timeout", "Unload an index header from memory that was not used for this long.").Hidden().Default("5m").DurationVar(&c.IndexHeaderIdleTimeout)
	r.Flag("store.recover-heads-after", "Turn the log that a sidecar ships into a block when it has not grown for this long, because its Prometheus is gone; four times as long while the source ships a newer log. Needs write access to the bucket. 0 means never.").Default("1h").SetValue(&c.RecoverHeadsAfter)
	r.Flag("store.recover-heads-memory", "Memory for labels and samples while a log is turned into a block. Less memory means more passes over the log; the labels of all its series must fit.").Default("256MB").SetValue(&c.RecoverHeadsMemory)
	r.Flag("store.recover-heads-disk", "Largest log that is turned into a block; its parts and the block are written below --data-dir meanwhile.").Default("10GB").SetValue(&c.RecoverHeadsDisk)
	r.Flag("deletions.poll-interval", "Pause between two listings of the requests to delete series, whose samples are then hidden.").Default("30s").SetValue(&c.DeletionsInterval)
	c.registerUnused(r)
}

func (c *Config) registerUnused(r flags.Registrar) {
	u := &c.unused
	r.Flag("store.enable-index-header-lazy-reader", flags.Ignored("index headers are always opened on first use")).Default("true").BoolVar(&u.lazyReader)
	r.Flag("store.index-header-lazy-download-strategy", flags.Ignored("index headers are always made on first use")).Default("lazy").EnumVar(&u.lazyDownload, "eager", "lazy")
	r.Flag("web.external-prefix", flags.Ignored("the links of the pages are relative")).StringVar(&u.webExternal)
	r.Flag("web.prefix-header", flags.Ignored("the links of the pages are relative")).StringVar(&u.webPrefixHeader)
	r.Flag("web.disable-cors", flags.Ignored("the gateway sends no CORS headers")).Default("false").BoolVar(&u.webDisableCORS)
	r.Flag("matcher-cache-size", flags.Ignored("matchers are compiled once per request")).Default("0").IntVar(&u.matcherCacheSize)
	r.Flag("debug.series-batch-size", flags.Ignored("batches are sized in bytes")).Hidden().Default("10000").IntVar(&u.seriesBatch)
	r.Flag("debug.estimated-max-series-size", flags.Ignored("sizes come from the block")).Hidden().Default("65536").Uint64Var(&u.maxSeriesSize)
	r.Flag("debug.estimated-max-chunk-size", flags.Ignored("sizes come from the block")).Hidden().Default("16000").Uint64Var(&u.maxChunkSize)
	r.Flag("store.index-header-posting-offsets-in-mem-sampling", flags.Ignored("all offsets are in the index header")).Hidden().Default("32").IntVar(&u.offsetSampling)
	u.parquet.Register(r, "objstore-parquet.config", "the bucket of parquet conversions, which this program refuses", true)
	u.cachingBucket.Register(hidden{r}, "store.caching-bucket.config", "the caching bucket (its type is accepted, pages of blocks are cached anyway)", true)
}

// Validate checks the values together.
func (c *Config) Validate() error {
	var errs []error
	positive := func(flag string, n int) {
		if n < 1 {
			errs = append(errs, fmt.Errorf("--%s must be at least 1, not %d", flag, n))
		}
	}
	positive("store.grpc.series-max-concurrency", c.MaxConcurrency)
	positive("block-sync-concurrency", c.BlockSyncConcurrency)
	positive("block-meta-fetch-concurrency", c.MetaFetchConcurrency)
	if c.LargeRequests < 0 {
		errs = append(errs, fmt.Errorf("--store.large-requests must not be negative, not %d", c.LargeRequests))
	}
	if c.LargeRequestWait <= 0 {
		errs = append(errs, fmt.Errorf("--store.large-request-wait must be above 0s, not %s", c.LargeRequestWait.Duration()))
	}
	if c.SyncInterval <= 0 {
		errs = append(errs, fmt.Errorf("--sync-block-duration must be above 0, not %s", c.SyncInterval))
	}
	if c.DeletionsInterval <= 0 {
		errs = append(errs, fmt.Errorf("--deletions.poll-interval must be above 0s, not %s", c.DeletionsInterval.Duration()))
	}
	now := time.Now()
	if c.MinTime.Millis(now) > c.MaxTime.Millis(now) {
		errs = append(errs, fmt.Errorf("--min-time %s is after --max-time %s", &c.MinTime, &c.MaxTime))
	}
	if _, err := c.selector(); err != nil {
		errs = append(errs, err)
	}
	if _, err := c.memoryBytes(); err != nil {
		errs = append(errs, err)
	}
	if c.unused.parquet.IsSet() {
		errs = append(errs, errors.New("--objstore-parquet.config is not supported: it would hide blocks that no other component serves"))
	}
	return flags.Invalid(errors.Join(errs...))
}

// largeRequests is the number of large requests that read at one time. The default leaves
// one core to small ones.
func (c *Config) largeRequests() int {
	if c.LargeRequests > 0 {
		return c.LargeRequests
	}
	return max(1, runtime.GOMAXPROCS(0)-1)
}

// UsesDataDir says whether the gateway writes files under --data-dir.
func (c *Config) UsesDataDir() bool { return c.CacheIndexHeader || c.DiskCacheSize.Int64() > 0 }

// lower returns the smaller of two limits of which 0 means none.
func lower(a, b uint64) uint64 {
	if a == 0 || (b != 0 && b < a) {
		return b
	}
	return a
}

// selector reads the relabelling that chooses blocks.
func (c *Config) selector() ([]*relabel.Config, error) {
	return flags.SelectorRules(&c.Selector, "blocks")
}
