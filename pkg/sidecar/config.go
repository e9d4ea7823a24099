package sidecar

import (
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/hindsight-io/hindsight/pkg/flags"
	"github.com/hindsight-io/hindsight/pkg/httpclient"
)

// Config is the configuration of a sidecar.
type Config struct {
	Prometheus PrometheusConfig
	Reloader   ReloaderConfig
	Shipper    ShipperConfig
	// TSDBPath is Prometheus's data directory.
	TSDBPath string
	// DirectReads serves persisted blocks from TSDBPath instead of asking
	// Prometheus for them.
	DirectReads bool
	// OutageDir is for the blocks that the log of Prometheus is converted into while
	// Prometheus does not answer; empty is a directory below TSDBPath.
	OutageDir string
	// OutageMemory bounds the memory of that conversion, in bytes.
	OutageMemory flags.Bytes
	// DeletionsInterval is the pause between two listings of the deletion requests of
	// the bucket; 0 reads none.
	DeletionsInterval flags.Duration
	// MinTime is the oldest time that is served and announced.
	MinTime flags.TimeOrDuration
	// SeriesLimit and SampleLimit bound the answer to one Series call; 0 is no
	// limit.
	SeriesLimit, SampleLimit uint64
}

// PrometheusConfig is the connection to Prometheus.
type PrometheusConfig struct {
	URL *url.URL
	// ReadyTimeout bounds the wait for the first answer.
	ReadyTimeout time.Duration
	// ConfigInterval is the time between two requests for its configuration.
	ConfigInterval time.Duration
	// ConfigTimeout bounds one such request.
	ConfigTimeout time.Duration
	Client        flags.PathOrContent
	// LastKnownInterval is the time between two requests that keep the last known
	// state of rules, targets, status and metadata; 0 sends none.
	LastKnownInterval time.Duration
	// LastKnownSize bounds the kept answers, in bytes of JSON.
	LastKnownSize flags.Bytes
}

// ReloaderConfig is the configuration of the reloader, which is off when both
// ConfigFile and RuleDirs are empty.
type ReloaderConfig struct {
	ConfigFile    string
	EnvsubstFile  string
	RuleDirs      []string
	WatchInterval time.Duration
	RetryInterval time.Duration
	Method        string
	ProcessName   string
	// TolerateUnset keeps $(NAME) of variables that are not set, instead of not
	// writing EnvsubstFile.
	TolerateUnset bool
}

func (c *ReloaderConfig) enabled() bool { return c.ConfigFile != "" || len(c.RuleDirs) > 0 }

// ShipperConfig is the configuration of the shipping of blocks.
type ShipperConfig struct {
	UploadCompacted        bool
	HashFunc               string
	MetaFileName           string
	UploadConcurrency      int
	Columns                bool
	IgnoreUnequalBlockSize bool
	AllowOutOfOrderUploads bool
	SkipCorruptedBlocks    bool
	// HeadInterval is the time between two uploads of what is new in the logs of the
	// head; 0 is never.
	HeadInterval time.Duration
	// RecheckInterval is the time after which a shipped block is first looked up in the
	// bucket again; 0 is never.
	RecheckInterval time.Duration
	// ClaimInterval is the time between two heartbeats of the claim on the external
	// labels; 0 makes no claim.
	ClaimInterval time.Duration
}

const (
	reloadHTTP   = "http"
	reloadSignal = "signal"
)

// RegisterFlags adds the flags of the sidecar, with their defaults.
func (c *Config) RegisterFlags(r flags.Registrar) {
	r.Flag("prometheus.url", "Base URL of the Prometheus server.").
		Default("http://localhost:9090").URLVar(&c.Prometheus.URL)
	r.Flag("prometheus.ready_timeout", "How long the start waits for Prometheus to be ready.").
		Default("10m").DurationVar(&c.Prometheus.ReadyTimeout)
	r.Flag("prometheus.get_config_interval", "How often the external labels are read again from Prometheus.").
		Default("30s").DurationVar(&c.Prometheus.ConfigInterval)
	r.Flag("prometheus.get_config_timeout", "Timeout of that read.").
		Default("30s").DurationVar(&c.Prometheus.ConfigTimeout)
	c.Prometheus.Client.Register(r, "prometheus.http-client", "how to connect to Prometheus: TLS, credentials, proxy", false)
	r.Flag("prometheus.last-known-interval", "How often rules, active targets, status and metadata are read, so that they can be answered while Prometheus is down; 0 keeps only what queriers asked for.").
		Default("5m").DurationVar(&c.Prometheus.LastKnownInterval)
	r.Flag("prometheus.last-known-size", "Most memory of those answers, counted as JSON; larger answers are not kept.").
		Default("32MiB").SetValue(&c.Prometheus.LastKnownSize)
	r.Flag("tsdb.path", "Data directory of Prometheus.").
		Default("./data").StringVar(&c.TSDBPath)
	r.Flag("tsdb.direct-reads", "Read persisted blocks from --tsdb.path, and only newer samples from Prometheus.").
		Default("true").BoolVar(&c.DirectReads)
	r.Flag("tsdb.outage-dir", "Directory for temporary copies of the head, which are made from the write-ahead log while Prometheus does not answer, and as large as its log at most; <tsdb.path>/thanos/outage if empty.").
		StringVar(&c.OutageDir)
	r.Flag("tsdb.outage-memory", "Most memory of that conversion; the labels of all series in the head must fit.").
		Default("256MiB").SetValue(&c.OutageMemory)
	r.Flag("deletions.poll-interval", "With a bucket, pause between two listings of the requests to delete series, whose samples are then hidden; 0 hides none.").
		Default("30s").SetValue(&c.DeletionsInterval)
	r.Flag("min-time", "Oldest time that is served: RFC 3339, or a duration from now such as -2w.").
		Default("0000-01-01T00:00:00Z").SetValue(&c.MinTime)
	r.Flag("store.limits.request-series", "Most series that one Series call may return; 0 is no limit.").
		Default("0").Uint64Var(&c.SeriesLimit)
	r.Flag("store.limits.request-samples", "Most samples that one Series call may return, counted as chunks of 120; 0 is no limit.").
		Default("0").Uint64Var(&c.SampleLimit)
	c.Reloader.registerFlags(r)
	c.Shipper.registerFlags(r)
}

func (c *ReloaderConfig) registerFlags(r flags.Registrar) {
	r.Flag("reloader.config-file", "Configuration file of Prometheus to watch.").
		StringVar(&c.ConfigFile)
	r.Flag("reloader.config-envsubst-file", "Where to write the configuration with $(NAME) replaced from the environment.").
		StringVar(&c.EnvsubstFile)
	r.Flag("reloader.tolerate-unset-variables", "Leave $(NAME) in the configuration when the variable is not set, instead of not writing it.").
		BoolVar(&c.TolerateUnset)
	r.Flag("reloader.rule-dir", "Directory, or pattern of directories and files, whose change triggers a reload; may be repeated. It need not exist yet.").
		StringsVar(&c.RuleDirs)
	r.Flag("reloader.watch-interval", "How often the files are read again, besides watching them.").
		Default("3m").DurationVar(&c.WatchInterval)
	r.Flag("reloader.retry-interval", "Pause after a reload that failed; when Prometheus refuses the configuration it doubles, up to --reloader.watch-interval.").
		Default("5s").DurationVar(&c.RetryInterval)
	r.Flag("reloader.method", "How to reload: http (POST to /-/reload) or signal (SIGHUP to the process).").
		Default(reloadHTTP).EnumVar(&c.Method, reloadHTTP, reloadSignal)
	r.Flag("reloader.process-name", "Executable that gets the signal.").
		Default("prometheus").StringVar(&c.ProcessName)
}

func (c *ShipperConfig) registerFlags(r flags.Registrar) {
	r.Flag("shipper.upload-compacted", "Also ship blocks that Prometheus has compacted, to move old data into the bucket.").
		BoolVar(&c.UploadCompacted)
	r.Flag("hash-func", "Hash of each file to record in meta.json; none if empty.").
		Default("").EnumVar(&c.HashFunc, "", "SHA256")
	r.Flag("shipper.meta-file-name", "Name of the file in the data directory that lists the shipped blocks.").
		Default("thanos.shipper.json").StringVar(&c.MetaFileName)
	r.Flag("shipper.upload-concurrency", "Files of a block that are uploaded at a time; 0 is the default of the program.").
		Default("0").IntVar(&c.UploadConcurrency)
	r.Flag("shipper.columns", "Upload the float chunks of each raw block of at most a day as columns too, so that store gateways read few series with few requests; half to all of the bytes of the block again.").
		Default("true").BoolVar(&c.Columns)
	r.Flag("shipper.head-interval", "How often what is new in the write-ahead log is uploaded, so that no more is lost with the disk of Prometheus; 0s never does.").
		Default("1m").DurationVar(&c.HeadInterval)
	r.Flag("shipper.recheck-interval", "How long after its upload a block that is still in --tsdb.path is looked up in the bucket again, and shipped again if it vanished there; the time doubles with each look, up to a day. 0s never looks.").
		Default("3h").DurationVar(&c.RecheckInterval)
	r.Flag("shipper.claim-interval", "How often the sidecar renews its claim on its external labels in the bucket, by which sources with equal labels are found; 0s makes no claim.").
		Default("2m").DurationVar(&c.ClaimInterval)
	r.Flag("shipper.ignore-unequal-block-size", "Ship although Prometheus compacts its blocks.").
		Hidden().BoolVar(&c.IgnoreUnequalBlockSize)
	r.Flag("shipper.allow-out-of-order-uploads", "Upload later blocks after one failed.").
		Hidden().BoolVar(&c.AllowOutOfOrderUploads)
	r.Flag("shipper.skip-corrupted-blocks", "Skip blocks that cannot be read instead of stopping at them.").
		Hidden().BoolVar(&c.SkipCorruptedBlocks)
}

// Validate returns an error that names the first wrong setting.
func (c *Config) Validate() error {
	u := c.Prometheus.URL
	if u == nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return flags.Invalid(fmt.Errorf("--prometheus.url=%s is not of the form http://host:port/prefix", flags.Redact("prometheus.url", fmt.Sprint(u))))
	}
	for name, d := range map[string]time.Duration{
		"prometheus.ready_timeout":       c.Prometheus.ReadyTimeout,
		"prometheus.get_config_interval": c.Prometheus.ConfigInterval,
		"prometheus.get_config_timeout":  c.Prometheus.ConfigTimeout,
		"reloader.watch-interval":        c.Reloader.WatchInterval,
		"reloader.retry-interval":        c.Reloader.RetryInterval,
	} {
		if d <= 0 {
			return flags.Invalid(fmt.Errorf("--%s must be greater than zero", name))
		}
	}
	switch {
	case c.Prometheus.LastKnownInterval < 0:
		return flags.Invalid(errors.New("--prometheus.last-known-interval is negative"))
	case c.Prometheus.LastKnownSize < 0:
		return flags.Invalid(errors.New("--prometheus.last-known-size is negative"))
	case c.OutageMemory <= 0:
		return flags.Invalid(errors.New("--tsdb.outage-memory must be greater than zero"))
	case c.TSDBPath == "":
		return flags.Invalid(errors.New("--tsdb.path is empty; give the data directory of Prometheus"))
	case c.Reloader.EnvsubstFile != "" && c.Reloader.ConfigFile == "":
		return flags.Invalid(errors.New("--reloader.config-envsubst-file needs --reloader.config-file"))
	case c.Shipper.MetaFileName == "":
		return flags.Invalid(errors.New("--shipper.meta-file-name is empty"))
	case c.Shipper.HeadInterval < 0:
		return flags.Invalid(errors.New("--shipper.head-interval is negative"))
	case c.Shipper.UploadConcurrency < 0:
		return flags.Invalid(errors.New("--shipper.upload-concurrency is negative"))
	case c.Shipper.RecheckInterval < 0:
		return flags.Invalid(errors.New("--shipper.recheck-interval is negative"))
	case c.Shipper.ClaimInterval < 0 || c.Shipper.ClaimInterval > time.Hour:
		return flags.Invalid(errors.New("--shipper.claim-interval must be between 0s and 1h"))
	}
	_, err := c.client()
	return err
}

// client reads the HTTP client configuration.
func (c *Config) client() (httpclient.Config, error) {
	b, err := c.Prometheus.Client.Content()
	if err != nil {
		return httpclient.Config{}, err
	}
	cfg, err := httpclient.Parse(b)
	if err != nil {
		return httpclient.Config{}, flags.Invalid(fmt.Errorf("%s: %w", c.Prometheus.Client.Source(), err))
	}
	return cfg, nil
}
