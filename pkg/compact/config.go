package compact

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/relabel"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/compact/blockcheck"
	"github.com/hindsight-io/hindsight/pkg/compact/lease"
	"github.com/hindsight-io/hindsight/pkg/compact/plan"
	"github.com/hindsight-io/hindsight/pkg/dedup"
	"github.com/hindsight-io/hindsight/pkg/flags"
)

// Config is the configuration of a compactor.
type Config struct {
	DataDir          string
	ConsistencyDelay time.Duration
	RetentionRaw     flags.Duration
	Retention5m      flags.Duration
	Retention1h      flags.Duration
	DeleteDelay      flags.Duration
	// Retention has rules of the retention of some series.
	Retention flags.PathOrContent

	Wait            bool
	WaitInterval    time.Duration
	CleanupInterval time.Duration
	DryRun          bool

	DisableDownsampling bool
	DedupFunc           string
	// Verify is how much of a result is compared with its sources before it is published.
	Verify        string
	ReplicaLabels flags.List
	RingLabels    flags.List
	Vertical      bool

	Concurrency           int
	FetchConcurrency      int
	FilesConcurrency      int
	MetaConcurrency       int
	DownsampleConcurrency int

	// Leases is how compactors share the bucket, LeaseDuration the silence after which the
	// groups of one are taken over.
	Leases        string
	LeaseDuration time.Duration

	HashFunc string
	// IndexHeaders writes bundles of index headers.
	IndexHeaders bool
	MaxLevel     int
	MaxIndexSize flags.Bytes
	// DiskBudget bounds the work directory of one merge, MergeMemory its buffers.
	DiskBudget  flags.Bytes
	MergeMemory flags.Bytes
	MinTime     flags.TimeOrDuration
	MaxTime     flags.TimeOrDuration
	Selector    flags.PathOrContent

	BlockLabel   string
	DisableAdmin bool
	// WebDisable serves no pages and no API of blocks.
	WebDisable bool

	// Accepted because manifests have them.
	unused unusedFlags
}

// unusedFlags are flags of Thanos without an effect.
type unusedFlags struct {
	discovery                     string
	viewerInterval, viewerTimeout time.Duration
	progressInterval              time.Duration
	webDisableCORS                bool
	webExternal, webPrefixHeader  string
	webRoutePrefix                string
	haltOnError, malformedIndex   bool
	skipOutOfOrder                bool
}

// Values of --deduplication.func.
const (
	dedupOneToOne = ""
	dedupPenalty  = "penalty"
)

// Values of --compact.leases.
const (
	leasesAuto = "auto"
	leasesNone = "none"
)

// minLease is the shortest lease time.
const minLease = time.Second

// DefaultConfig returns the defaults of the flags, for a program that has no
// flags for this role.
func DefaultConfig() Config {
	return Config{
		DataDir: "./data", ConsistencyDelay: 30 * time.Minute, DeleteDelay: flags.Duration(48 * time.Hour),
		WaitInterval: 5 * time.Minute, CleanupInterval: 5 * time.Minute, DedupFunc: dedupOneToOne, Verify: string(blockcheck.Sample),
		Concurrency: 1, FetchConcurrency: 1, FilesConcurrency: 1, MetaConcurrency: 32, DownsampleConcurrency: 1,
		Leases: leasesAuto, LeaseDuration: time.Minute,
		MaxLevel: 4, MaxIndexSize: 64 << 30, MergeMemory: 128 << 20, IndexHeaders: true,
		MinTime: flags.TimeAt(time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC)),
		MaxTime: flags.TimeAt(time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)),
	}
}

// RegisterFlags adds the compactor's flags.
func (c *Config) RegisterFlags(r flags.Registrar) {
	r.Flag("data-dir", "Work directory. Files of an earlier run are removed; a directory in use by another compactor is refused.").Default("./data").StringVar(&c.DataDir)
	r.Flag("consistency-delay", "Skip blocks of producers until they are this old, for buckets whose listings show new objects late.").Default("30m").DurationVar(&c.ConsistencyDelay)
	r.Flag("retention.resolution-raw", "Keep raw data for this long; 0d is for ever. With downsampling, data is deleted only when its 5m data exists.").Default("0d").SetValue(&c.RetentionRaw)
	r.Flag("retention.resolution-5m", "Keep 5m data for this long; 0d is for ever. It is deleted only when its 1h data exists.").Default("0d").SetValue(&c.Retention5m)
	r.Flag("retention.resolution-1h", "Keep 1h data for this long; 0d is for ever.").Default("0d").SetValue(&c.Retention1h)
	c.Retention.Register(r, "retention.config", "rules of the retention of tenants and series, which override the retention of resolutions; read again at a reload", true)
	r.Flag("delete-delay", "Time between the deletion mark of a block and its deletion; 0 deletes at once.").Default("48h").SetValue(&c.DeleteDelay)

	r.Flag("wait", "Keep running instead of ending after one pass.").Short('w').Default("false").BoolVar(&c.Wait)
	r.Flag("wait-interval", "Pause between two passes with --wait.").Default("5m").DurationVar(&c.WaitInterval)
	r.Flag("compact.cleanup-interval", "With --wait, pause between two rounds of retention and deletion, which run in parallel with merging; 0s runs them between merges only.").Default("5m").DurationVar(&c.CleanupInterval)
	r.Flag("dry-run", "Print the next jobs with their reasons, and end without a change of the bucket.").Default("false").BoolVar(&c.DryRun)

	r.Flag("downsampling.disable", "Do not downsample.").Default("false").BoolVar(&c.DisableDownsampling)
	r.Flag("deduplication.func", "How replicas are merged: empty takes every sample of all replicas and one of those with equal times (for exact copies; anything else is refused), penalty follows one replica and fills each hole of it, a step of more than 1.5 intervals, from the others (for HA pairs).").Default(dedupOneToOne).EnumVar(&c.DedupFunc, dedupOneToOne, dedupPenalty)
	r.Flag("deduplication.replica-label", "External label that distinguishes replicas; it is removed and replicas are merged. May be repeated, or hold several separated by commas.").SetValue(&c.ReplicaLabels)
	r.Flag("deduplication.ring-replica-label", "Replica label that distinguishes the nodes of a hash ring, which store copies of the same samples: all samples of all copies are kept, with any --deduplication.func. It takes effect when --deduplication.replica-label names the label, too. receive_replica is always one.").SetValue(&c.RingLabels)
	r.Flag("compact.enable-vertical-compaction", flags.Ignored("blocks with equal external labels that overlap are always merged")).Hidden().Default("false").BoolVar(&c.Vertical)

	r.Flag("compact.concurrency", "Number of merges at one time.").Default("1").IntVar(&c.Concurrency)
	r.Flag("compact.blocks-fetch-concurrency", "Number of blocks that a merge downloads at one time.").Default("1").IntVar(&c.FetchConcurrency)
	r.Flag("block-files-concurrency", "Number of files of a block that are transferred at one time.").Default("1").IntVar(&c.FilesConcurrency)
	r.Flag("block-meta-fetch-concurrency", "Number of meta.json files that are read at one time.").Default("32").IntVar(&c.MetaConcurrency)
	r.Flag("downsample.concurrency", "Number of blocks that are downsampled at one time.").Default("1").IntVar(&c.DownsampleConcurrency)

	r.Flag("compact.leases", "How several compactors share the bucket: auto takes a lease for each group that the compactor works on, and refuses to run beside another compactor if the bucket has no conditional writes; none takes no leases, for a single compactor or for ones with disjoint --selector.relabel-config.").Default(leasesAuto).EnumVar(&c.Leases, leasesAuto, leasesNone)
	r.Flag("compact.lease-duration", "Silence of a compactor after which others take over the groups that it works on.").Default("1m").DurationVar(&c.LeaseDuration)

	r.Flag("compact.verify", "How the result of a merge is verified before it becomes visible and its sources are marked for deletion. sample compares digests of all chunks and all samples of merged series with the sources, and reads the index and the chunks of about 256 series back from the bucket; full decodes all chunks of the sources, compares with other decoders than those of the merge, and reads all of the result back; none verifies nothing.").Default(string(blockcheck.Sample)).EnumVar(&c.Verify, string(blockcheck.Full), string(blockcheck.Sample), string(blockcheck.None))
	r.Flag("hash-func", "Hash of each file that is recorded in meta.json: empty (none) or SHA256.").Default("").EnumVar(&c.HashFunc, "", block.HashSHA256)
	r.Flag("compact.index-header-bundles", "After each pass, write the index headers of all blocks into few objects under hindsight/ of the bucket, so that a store gateway with an empty disk starts with few requests.").Default("true").BoolVar(&c.IndexHeaders)
	r.Flag("debug.max-compaction-level", "Largest range of blocks: 1 is 2h, 2 is 8h, 3 is 2d, 4 is 14d.").Hidden().Default("4").IntVar(&c.MaxLevel)
	r.Flag("compact.disk-budget", "Bytes that one merge or downsampling may have in the work directory: half for segments before their upload, which become smaller, half for the index. A job that needs more fails and is tried again in the next pass. 0 is no bound beside the default: two segments of 512MB for each of --block-files-concurrency, and the index.").Default("0").SetValue(&c.DiskBudget)
	r.Flag("compact.merge-memory", "Bytes of the buffers of one merge or downsampling, whatever the size of its blocks.").Default("128MB").SetValue(&c.MergeMemory)
	r.Flag("compact.block-max-index-size", "Divide the series of a merge among several blocks if the index of one block would be larger than this, or than the format allows.").Hidden().Default("64GB").SetValue(&c.MaxIndexSize)
	r.Flag("min-time", "Work on blocks that end at this time or later: a time (RFC 3339), or a duration relative to now such as -30d.").Default("0000-01-01T00:00:00Z").SetValue(&c.MinTime)
	r.Flag("max-time", "Work on blocks that begin at this time or earlier.").Default("9999-12-31T23:59:59Z").SetValue(&c.MaxTime)
	c.Selector.Register(r, "selector.relabel-config", "relabelling that chooses blocks by their external labels, without replica labels, and __block_id (actions keep, drop, hashmod)", true)
	r.Flag("bucket-web-label", "External label by which the list of blocks is grouped.").StringVar(&c.BlockLabel)
	r.Flag("web.disable", "Serve no web pages and no list of blocks.").Default("false").BoolVar(&c.WebDisable)
	r.Flag("disable-admin-operations", "Refuse to mark blocks over HTTP.").Default("false").BoolVar(&c.DisableAdmin)
	c.registerUnused(r)
}

func (c *Config) registerUnused(r flags.Registrar) {
	u := &c.unused
	r.Flag("block-discovery-strategy", flags.Ignored("the bucket is always listed once")).Default("concurrent").EnumVar(&u.discovery, "concurrent", "recursive")
	r.Flag("block-viewer.global.sync-block-interval", flags.Ignored("the list of blocks is that of the last listing of the compactor")).Default("1m").DurationVar(&u.viewerInterval)
	r.Flag("block-viewer.global.sync-block-timeout", flags.Ignored("the list of blocks is that of the last listing of the compactor")).Default("5m").DurationVar(&u.viewerTimeout)
	r.Flag("compact.progress-interval", flags.Ignored("the todo metrics are updated at every listing of the bucket")).Default("5m").DurationVar(&u.progressInterval)
	r.Flag("web.route-prefix", flags.Ignored("a proxy may take any prefix off, because the links of the pages are relative")).StringVar(&u.webRoutePrefix)
	r.Flag("web.external-prefix", flags.Ignored("the links of the pages are relative")).StringVar(&u.webExternal)
	r.Flag("web.prefix-header", flags.Ignored("the links of the pages are relative")).StringVar(&u.webPrefixHeader)
	r.Flag("web.disable-cors", flags.Ignored("the compactor sends no CORS headers")).Default("false").BoolVar(&u.webDisableCORS)
	r.Flag("debug.halt-on-error", flags.Ignored("the compactor never halts")).Hidden().Default("true").BoolVar(&u.haltOnError)
	r.Flag("debug.accept-malformed-index", flags.Ignored("a block with a malformed index is quarantined")).Hidden().Default("false").BoolVar(&u.malformedIndex)
	r.Flag("compact.skip-block-with-out-of-order-chunks", flags.Ignored("such a block is always marked no-compact")).Hidden().Default("false").BoolVar(&u.skipOutOfOrder)
}

// Validate returns an error that lists all wrong flags.
func (c *Config) Validate() error {
	var errs []error
	if c.DedupFunc == dedupPenalty && len(c.ReplicaLabels.Values()) == 0 {
		errs = append(errs, errors.New("--deduplication.func=penalty needs --deduplication.replica-label"))
	}
	for _, l := range c.ReplicaLabels.Values() {
		if !model.UTF8Validation.IsValidLabelName(l) {
			errs = append(errs, fmt.Errorf("--deduplication.replica-label: %q is not a label name", l))
		}
	}
	if levels := len(plan.Ranges()); c.MaxLevel < 1 || c.MaxLevel > levels {
		errs = append(errs, fmt.Errorf("--debug.max-compaction-level must be from 1 to %d, not %d", levels, c.MaxLevel))
		return flags.Invalid(errors.Join(errs...))
	}
	if c.MergeMemory <= 0 || c.DiskBudget < 0 {
		errs = append(errs, errors.New("--compact.merge-memory must be positive, --compact.disk-budget not negative"))
	}
	if c.Wait && c.WaitInterval <= 0 {
		errs = append(errs, errors.New("--wait-interval must be positive"))
	}
	if c.LeaseDuration < minLease {
		errs = append(errs, fmt.Errorf("--compact.lease-duration must be at least %s, not %s", minLease, c.LeaseDuration))
	}
	if c.LeaseDuration > lease.MaxDuration {
		errs = append(errs, fmt.Errorf("--compact.lease-duration must be at most %s, not %s", lease.MaxDuration, c.LeaseDuration))
	}
	for flag, n := range map[string]int{
		"compact.concurrency": c.Concurrency, "compact.blocks-fetch-concurrency": c.FetchConcurrency,
		"block-files-concurrency": c.FilesConcurrency, "block-meta-fetch-concurrency": c.MetaConcurrency,
		"downsample.concurrency": c.DownsampleConcurrency,
	} {
		if n < 1 {
			errs = append(errs, fmt.Errorf("--%s must be at least 1, not %d", flag, n))
		}
	}
	p := c.policy()
	errs = append(errs, p.Validate())
	_, err := c.selector()
	errs = append(errs, err)
	_, err = c.readRetention()
	errs = append(errs, err)
	return flags.Invalid(errors.Join(errs...))
}

// dedupFunc is the function that merges replicas.
func (c *Config) dedupFunc() dedup.Func {
	if c.DedupFunc == dedupPenalty {
		return dedup.FuncCoverage
	}
	return dedup.FuncChain
}

// ringLabels are the labels that distinguish copies of one source.
func (c *Config) ringLabels() []string { return append(c.RingLabels.Values(), dedup.RingLabel) }

// policy is the part of the configuration that the planner needs.
func (c *Config) policy() plan.Policy {
	return plan.Policy{
		Ranges:        plan.Ranges()[:c.MaxLevel],
		ReplicaLabels: c.ReplicaLabels.Values(),
		Retention: map[int64]time.Duration{
			block.ResolutionRaw: c.RetentionRaw.Duration(),
			block.Resolution5m:  c.Retention5m.Duration(),
			block.Resolution1h:  c.Retention1h.Duration(),
		},
		DeleteDelay:      c.DeleteDelay.Duration(),
		ConsistencyDelay: c.ConsistencyDelay,
		Downsampling:     !c.DisableDownsampling,
	}
}

// selector reads the relabelling that chooses blocks.
func (c *Config) selector() ([]*relabel.Config, error) {
	return flags.SelectorRules(&c.Selector, "blocks")
}
