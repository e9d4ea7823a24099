package receive

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/flags"
	"github.com/hindsight-io/hindsight/pkg/grpcsnappy"
	"github.com/hindsight-io/hindsight/pkg/receive/hashring"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/tenant"
	"github.com/hindsight-io/hindsight/pkg/webconfig"
)

// Config configures the role. Defaults are set by RegisterFlags and DefaultConfig.
type Config struct {
	// RemoteWriteAddress is the address of the write endpoints; empty means
	// that the caller serves them with RegisterWrite.
	RemoteWriteAddress string
	// RemoteWriteConfigFile is the path of its web configuration file; may be empty.
	RemoteWriteConfigFile string
	// MaxConnections bounds the open connections there; 0 is no limit.
	MaxConnections   int
	ServerTLS        ServerTLS
	ClientTLS        ClientTLS
	MaxRequestBytes  flags.Bytes
	MaxInflightBytes flags.Bytes

	Labels flags.LabelSet

	HashringsFile     string
	Hashrings         string
	HashringAlgorithm string
	HashringRefresh   flags.Duration
	LocalEndpoint     string
	// Members are the addresses by which the members of the hashring are discovered.
	Members               []string
	MembersInterval       flags.Duration
	MembersTimeout        flags.Duration
	KubernetesCredentials string

	TenantHeader      string
	TenantCertField   string
	DefaultTenant     string
	SplitTenantLabel  string
	TenantLabel       string
	ReplicaHeader     string
	ReplicationFactor int
	ForwardWorkers    int
	ForwardTimeout    flags.Duration
	ForwardMaxBackoff flags.Duration
	ForwardQueue      flags.Bytes
	HintsBytes        flags.Bytes
	Compression       string
	Protocol          string
	// CapnProtoAddress is the address for writes over Cap'n Proto; empty is off.
	CapnProtoAddress string
	// CapnProtoPlain serves Cap'n Proto in plain text although the gRPC server has TLS.
	CapnProtoPlain bool
	ServiceConfig  string
	Relabel        flags.PathOrContent
	Limits         flags.PathOrContent
	LimitsReload   time.Duration
	// Reads bounds the answers of the StoreAPI.
	Reads storeapi.Bounds
	// DeletionsInterval is the pause between two listings of the deletion requests.
	DeletionsInterval flags.Duration
	// EnableAdmin serves the API that deletes series.
	EnableAdmin bool

	TSDB TSDBConfig
	OTLP OTLPConfig

	features         flags.List
	lazyBuffered     int
	matcherCacheSize int
	artificialDelay  flags.Duration
	// syncInterval is the pause between uploads; 0 is the default. Tests set it.
	syncInterval time.Duration
}

// TSDBConfig configures how tenants are stored and shipped.
type TSDBConfig struct {
	Path              string
	Retention         flags.Duration
	MaxBytes          flags.Bytes
	MinFreeDisk       flags.Bytes
	FutureWindow      flags.Duration
	PastWindow        flags.Duration
	OutOfOrderWindow  flags.Duration
	OutOfOrderCap     int64
	MaxExemplars      int64
	StartTimestamps   bool
	WALCompression    bool
	NoLockfile        bool
	MinBlock          flags.Duration
	MaxBlock          flags.Duration
	WriteQueueSize    int
	SnapshotOnClose   bool
	HashFunc          string
	UploadConcurrency int
	Columns           bool
	AllowOutOfOrder   bool
	SkipCorrupted     bool

	overlapping, nativeHistograms    bool
	headPostingsCache, blockPostings uint64
}

// OTLPConfig configures the translation of OTLP.
type OTLPConfig struct {
	TargetInfo        bool
	PromoteAttributes flags.List
}

// defaultMaxRequest bounds the decompressed body of a write. Senders send a few
// hundred kilobytes.
const defaultMaxRequest = 128 << 20

// DefaultConfig returns the defaults of the flags, for a program that has no flags
// for this role: one node, no ring, no listener of its own.
func DefaultConfig() Config {
	return Config{
		MaxRequestBytes: defaultMaxRequest, MaxInflightBytes: 1 << 30, MaxConnections: 16384,
		HashringAlgorithm: string(hashring.Ketama),
		HashringRefresh:   flags.Duration(5 * time.Minute),
		MembersInterval:   flags.Duration(5 * time.Second), MembersTimeout: flags.Duration(10 * time.Minute), KubernetesCredentials: serviceAccountDir,
		TenantHeader:  tenant.Header,
		DefaultTenant: tenant.Default, TenantLabel: "tenant_id", ReplicaHeader: "THANOS-REPLICA",
		ReplicationFactor: 1, ForwardWorkers: 5, ForwardTimeout: flags.Duration(5 * time.Second),
		ForwardMaxBackoff: flags.Duration(5 * time.Second), ForwardQueue: 64 << 20, HintsBytes: 1 << 30,
		Compression: grpcsnappy.Name, Protocol: "protobuf", LimitsReload: time.Second,
		TSDB: TSDBConfig{
			Path: "./data", Retention: flags.Duration(15 * 24 * time.Hour),
			FutureWindow: flags.Duration(10 * time.Minute), PastWindow: flags.Duration(365 * 24 * time.Hour), OutOfOrderWindow: flags.Duration(2 * time.Hour),
			MinFreeDisk:    256 << 20,
			WALCompression: true, MinBlock: flags.Duration(2 * time.Hour), MaxBlock: flags.Duration(2 * time.Hour),
			MaxExemplars: 0, Columns: true,
		},
		OTLP: OTLPConfig{TargetInfo: true}, DeletionsInterval: flags.Duration(30 * time.Second),
		ServerTLS: ServerTLS{MinVersion: "1.3"},
		ClientTLS: ClientTLS{MinVersion: "1.3"},
	}
}

// RegisterFlags adds the flags of the role.
func (c *Config) RegisterFlags(r flags.Registrar) {
	*c = DefaultConfig()
	c.registerListener(r)
	c.registerPeerTLS(r)
	c.registerRing(r)
	c.registerTenant(r)
	c.TSDB.registerFlags(r)
	c.registerHidden(r)
	r.Flag("label", `External label name="value" of everything stored here; may be repeated. Without any, receive_replica="<hostname>".`).
		PlaceHolder(`name="value"`).SetValue(&c.Labels)
	r.Flag("receive.otlp-enable-target-info", "Make the series target_info from the resources of OTLP.").
		Default("true").BoolVar(&c.OTLP.TargetInfo)
	r.Flag("receive.otlp-promote-resource-attributes", "Resource attribute of OTLP to turn into a label; may be repeated.").
		SetValue(&c.OTLP.PromoteAttributes)
}

func (c *Config) registerListener(r flags.Registrar) {
	r.Flag("remote-write.address", "Address of the remote write and OTLP server.").
		Default("0.0.0.0:19291").StringVar(&c.RemoteWriteAddress)
	r.Flag("remote-write.max-connections", "Open connections of the remote write server; idle ones are closed for new ones. 0 is no limit.").
		Default("16384").IntVar(&c.MaxConnections)
	r.Flag("remote-write.max-request-size", "Largest write request, decompressed.").
		Default("128MiB").SetValue(&c.MaxRequestBytes)
	r.Flag("remote-write.max-inflight-size", "Largest sum of the write requests that are worked on at a time, decompressed; others wait.").
		Default("1GiB").SetValue(&c.MaxInflightBytes)
	r.Flag("remote-write.http-config", "Path of a web configuration file for the remote write server, as --http.config: users and passwords, and TLS unless the flags below set it.").
		StringVar(&c.RemoteWriteConfigFile)
	t := &c.ServerTLS
	r.Flag("remote-write.server-tls-cert", "Certificate of the remote write server; without it and the key, plain text.").StringVar(&t.Cert)
	r.Flag("remote-write.server-tls-key", "Private key of the remote write server.").StringVar(&t.Key)
	r.Flag("remote-write.server-tls-client-ca", "CA of client certificates; when given, clients must have one.").StringVar(&t.ClientCA)
	r.Flag("remote-write.server-tls-min-version", "Lowest TLS version: 1.0, 1.1, 1.2 or 1.3.").
		Default("1.3").EnumVar(&t.MinVersion, "1.0", "1.1", "1.2", "1.3")
	r.Flag("remote-write.server-tls-ciphers", "Allowed cipher suite by its Go name; may be repeated.").StringsVar(&t.Ciphers)
	r.Flag("remote-write.server-tls-curves", "Allowed key exchange group; may be repeated.").StringsVar(&t.Curves)
}

func (c *Config) registerPeerTLS(r flags.Registrar) {
	t := &c.ClientTLS
	r.Flag("remote-write.client-tls-cert", "Client certificate for peers.").StringVar(&t.Cert)
	r.Flag("remote-write.client-tls-key", "Client key for peers.").StringVar(&t.Key)
	r.Flag("remote-write.client-tls-secure", "Use TLS to peers.").BoolVar(&t.Secure)
	r.Flag("remote-write.client-tls-skip-verify", "Do not verify the certificates of peers.").BoolVar(&t.SkipVerify)
	r.Flag("remote-write.client-tls-ca", "CA of the peers' certificates.").StringVar(&t.CA)
	r.Flag("remote-write.client-server-name", "Server name expected in the peers' certificates.").StringVar(&t.ServerName)
	r.Flag("remote-write.client-tls-min-version", "Lowest TLS version to peers: 1.0, 1.1, 1.2 or 1.3.").
		Default("1.3").EnumVar(&t.MinVersion, "1.0", "1.1", "1.2", "1.3")
}

// registerRing registers the flags of the hashring, of the writes to peers and of
// their hints.
func (c *Config) registerRing(r flags.Registrar) {
	r.Flag("receive.hashrings-file", "Path of the hashring file (JSON); read again when it changes.").
		PlaceHolder("<path>").StringVar(&c.HashringsFile)
	r.Flag("receive.hashrings", "The hashrings (JSON), inline; used when no file is given.").
		PlaceHolder("<content>").StringVar(&c.Hashrings)
	r.Flag("receive.hashrings-algorithm", "Placement in rings that name no algorithm of their own: ketama or hashmod.").
		Default("ketama").EnumVar(&c.HashringAlgorithm, "ketama", "hashmod")
	r.Flag("receive.hashrings-file-refresh-interval", "How often the hashring file is read, also without a notification of a change.").
		Default("5m").SetValue(&c.HashringRefresh)
	r.Flag("receive.members", "Discover the members of the hashring, instead of a file: k8s+<service>.<namespace>.svc:<port>, dnssrv+<name>, dns+<host:port> or host:port; may be repeated.").
		PlaceHolder("<address>").StringsVar(&c.Members)
	r.Flag("receive.members-interval", "How often members are looked up and asked for their state.").
		Default("5s").SetValue(&c.MembersInterval)
	r.Flag("receive.members-timeout", "How long a discovered member that is neither found nor answers stays in the hashring. One that its StatefulSet still has stays for ever.").
		Default("10m").SetValue(&c.MembersTimeout)
	r.Flag("receive.kubernetes-credentials", "Directory with the token and the ca.crt by which members k8s+... are read from the API.").
		Default(serviceAccountDir).StringVar(&c.KubernetesCredentials)
	r.Flag("receive.local-endpoint", "This node's own address in the hashring. Without it, the endpoint with this host's name or address and the port of --grpc-address.").
		StringVar(&c.LocalEndpoint)
	r.Flag("receive.replication-factor", "Copies of each series.").Default("1").IntVar(&c.ReplicationFactor)
	r.Flag("receive.replica-header", "Header with the number of the copy.").Default("THANOS-REPLICA").StringVar(&c.ReplicaHeader)
	r.Flag("receive.forward.async-workers", "Concurrent messages to one peer.").Default("5").IntVar(&c.ForwardWorkers)
	r.Flag("receive.forward.queue-size", "Bytes that may wait for one peer; further writes to it become hints.").
		Default("64MiB").SetValue(&c.ForwardQueue)
	r.Flag("receive.hints.max-size", "Bytes of hints kept on disk for each peer that cannot be reached; 0 keeps none.").
		Default("1GiB").SetValue(&c.HintsBytes)
	r.Flag("receive.grpc-compression", "Compression of messages to peers: snappy or none.").
		Default(grpcsnappy.Name).EnumVar(&c.Compression, grpcsnappy.Name, "none")
	r.Flag("receive.replication-protocol", "Protocol to peers. With capnproto too, writes to peers use protobuf, which every peer accepts; --receive.capnproto-address accepts writes of peers over Cap'n Proto.").
		Default("protobuf").EnumVar(&c.Protocol, "protobuf", "capnproto")
	r.Flag("receive.capnproto-address", "Address for writes of peers over Cap'n Proto, with the TLS of the gRPC server (--grpc-server-tls-cert and the others), or in plain text where that has none; empty disables it. The default address is not used if it is in use already, or if it would be in plain text while the remote write server has TLS or passwords.").
		Default(defaultCapnProtoAddress).StringVar(&c.CapnProtoAddress)
	r.Flag("receive.capnproto-plaintext", "Serve Cap'n Proto in plain text and without authentication although the gRPC server has TLS: receivers of Thanos have no TLS for it. The address has to be given.").
		Default("false").BoolVar(&c.CapnProtoPlain)
	r.Flag("receive.grpc-service-config", "gRPC service config (JSON) of the connections to peers.").
		PlaceHolder("<content>").StringVar(&c.ServiceConfig)
}

// serviceAccountDir is where Kubernetes mounts the service account of a pod.
const serviceAccountDir = "/var/run/secrets/kubernetes.io/serviceaccount"

// discovers reports whether the members of the hashring are discovered.
func (c *Config) discovers() bool { return len(c.Members) > 0 }

// defaultCapnProtoAddress is the one that Thanos takes for a member that gives none.
const defaultCapnProtoAddress = "0.0.0.0:19391"

func (c *Config) registerTenant(r flags.Registrar) {
	r.Flag("receive.tenant-header", "Header with the tenant; THANOS-TENANT and X-Scope-OrgID are understood too.").
		Default(tenant.Header).StringVar(&c.TenantHeader)
	r.Flag("receive.tenant-certificate-field", "Take the tenant from this field of the client certificate: organization, organizationalUnit or commonName.").
		EnumVar(&c.TenantCertField, "", "organization", "organizationalUnit", "commonName")
	r.Flag("receive.default-tenant-id", "Tenant of requests that name none.").Default(tenant.Default).StringVar(&c.DefaultTenant)
	r.Flag("receive.split-tenant-label-name", "Label whose value is the tenant of a series; it is removed.").StringVar(&c.SplitTenantLabel)
	r.Flag("receive.tenant-label-name", "External label that names the tenant.").Default("tenant_id").StringVar(&c.TenantLabel)
	c.Relabel.Register(r, "receive.relabel-config", "relabelling rules for incoming series", true)
}

// registerFlags registers the flags of the TSDBs and of the shipper.
func (t *TSDBConfig) registerFlags(r flags.Registrar) {
	r.Flag("tsdb.path", "Directory with one TSDB for each tenant.").Default("./data").StringVar(&t.Path)
	r.Flag("tsdb.retention", "How long blocks are kept on this node; 0d is for ever. With a bucket, no block is deleted before it is uploaded.").
		Default("15d").SetValue(&t.Retention)
	r.Flag("tsdb.max-retention-bytes", "Largest size of the blocks of each tenant; 0 is no limit.").Default("0").SetValue(&t.MaxBytes)
	r.Flag("tsdb.min-free-disk", "Refuse writes as unavailable while the disk has less free space; 0 is off. Without space blocks cannot be made, and a TSDB can end the process.").
		Default("256MB").SetValue(&t.MinFreeDisk)
	r.Flag("tsdb.too-far-in-future.time-window", "Reject samples further ahead of the clock than this; 0 is off.").
		Default("10m").SetValue(&t.FutureWindow)
	r.Flag("tsdb.too-far-in-past.time-window", "Reject samples further behind the clock than this, also as the first of a tenant; 0 is off, for samples since the year 0.").
		Default("365d").SetValue(&t.PastWindow)
	r.Flag("tsdb.out-of-order.time-window", "Accept samples that are this much older than the tenant's newest; 0 is off.").
		Default("2h").SetValue(&t.OutOfOrderWindow)
	r.Flag("tsdb.out-of-order.cap-max", "Samples in a chunk of out-of-order samples; 0 is 32.").Default("0").Int64Var(&t.OutOfOrderCap)
	r.Flag("tsdb.start-timestamps", "Store the start timestamps of remote write 2.0 and OTLP with the samples, in chunks of a newer encoding (XOR2). All parts of Hindsight read them; Thanos does not.").
		Default("false").BoolVar(&t.StartTimestamps)
	r.Flag("tsdb.max-exemplars", "Exemplars kept for each tenant; 0 is off.").Default("0").Int64Var(&t.MaxExemplars)
	r.Flag("tsdb.wal-compression", "Compress the write-ahead log.").Default("true").BoolVar(&t.WALCompression)
	r.Flag("tsdb.no-lockfile", "Make no lock file in the TSDBs.").BoolVar(&t.NoLockfile)
	r.Flag("tsdb.allow-overlapping-blocks", flags.Ignored("overlapping blocks are always allowed")).BoolVar(&t.overlapping)
	r.Flag("tsdb.enable-native-histograms", flags.Ignored("native histograms are always accepted")).
		Default("true").BoolVar(&t.nativeHistograms)
	r.Flag("tsdb.head.expanded-postings-cache-size", flags.Ignored("postings of the head are not cached")).Default("0").Uint64Var(&t.headPostingsCache)
	r.Flag("tsdb.block.expanded-postings-cache-size", flags.Ignored("postings of local blocks are not cached")).Default("0").Uint64Var(&t.blockPostings)
	r.Flag("hash-func", "Record this hash of each file in meta.json: SHA256 or nothing.").EnumVar(&t.HashFunc, "", "SHA256")
	r.Flag("shipper.upload-concurrency", "Parallel uploads of the files of a block; 0 chooses.").
		Default("0").IntVar(&t.UploadConcurrency)
	r.Flag("shipper.columns", "Upload the float chunks of each raw block of at most a day as columns too, so that store gateways read few series with few requests; half to all of the bytes of the block again.").
		Default("true").BoolVar(&t.Columns)
}

func (c *Config) registerHidden(r flags.Registrar) {
	t := &c.TSDB
	r.Flag("receive-forward-timeout", "Timeout of a write to a peer.").Default("5s").Hidden().SetValue(&c.ForwardTimeout)
	r.Flag("receive-forward-max-backoff", "Longest pause after failures of a peer.").Default("5s").Hidden().SetValue(&c.ForwardMaxBackoff)
	r.Flag("receive.artificial-max-delay", flags.Ignored("writes are never delayed on purpose")).Default("0s").Hidden().SetValue(&c.artificialDelay)
	r.Flag("receive.limits-config-reload-timer", "How often the limits file is checked for a change.").
		Default("1s").Hidden().DurationVar(&c.LimitsReload)
	c.Limits.Register(r, "receive.limits-config", "limits of requests and tenants", true)
	r.Flag("tsdb.min-block-duration", "Shortest block.").Default("2h").Hidden().SetValue(&t.MinBlock)
	r.Flag("tsdb.max-block-duration", "Longest block.").Default("2h").Hidden().SetValue(&t.MaxBlock)
	r.Flag("tsdb.write-queue-size", "Size of the queue of head chunks to write.").Default("0").Hidden().IntVar(&t.WriteQueueSize)
	r.Flag("tsdb.memory-snapshot-on-shutdown", "Write a snapshot of the head when stopping.").Hidden().BoolVar(&t.SnapshotOnClose)
	r.Flag("shipper.allow-out-of-order-uploads", "Upload later blocks when one fails.").Hidden().BoolVar(&t.AllowOutOfOrder)
	r.Flag("shipper.skip-corrupted-blocks", "Do not report broken blocks as errors.").Hidden().BoolVar(&t.SkipCorrupted)
	r.Flag("matcher-cache-size", flags.Ignored("matchers are compiled once per request")).Default("0").Hidden().IntVar(&c.matcherCacheSize)
	r.Flag("receive.lazy-retrieval-max-buffered-responses", flags.Ignored("nothing is buffered")).
		Default("20").Hidden().IntVar(&c.lazyBuffered)
	r.Flag("enable-feature", flags.Ignored("metric-names-filter, the only feature, is not announced")).Hidden().SetValue(&c.features)
	r.Flag("store.limits.request-series", "Most series that one Series call may return, of all tenants together; 0 is no limit.").
		Default("0").Uint64Var(&c.Reads.Series)
	r.Flag("store.limits.request-samples", "Most samples that one Series call may return, counted as chunks of 120; 0 is no limit.").
		Default("0").Uint64Var(&c.Reads.Samples)
	r.Flag("web.enable-admin-api", "Serve the API that deletes series on --http-address, as Prometheus does.").Default("false").BoolVar(&c.EnableAdmin)
	r.Flag("deletions.poll-interval", "With a bucket, pause between two listings of the requests to delete series, whose samples are then hidden and deleted.").Default("30s").SetValue(&c.DeletionsInterval)
}

// Validate checks the flags against each other.
func (c *Config) Validate() error {
	err := errors.Join(c.validateRing(), c.ServerTLS.validate(), c.TSDB.validate())
	if err == nil && c.MaxRequestBytes <= 0 {
		err = errors.New("--remote-write.max-request-size must be above 0")
	}
	if err == nil && c.MaxInflightBytes < c.MaxRequestBytes {
		err = errors.New("--remote-write.max-inflight-size must not be below --remote-write.max-request-size")
	}
	if err == nil && c.DeletionsInterval <= 0 {
		err = errors.New("--deletions.poll-interval must be above 0")
	}
	if err == nil {
		err = c.validateListener()
	}
	if err == nil && !model.UTF8Validation.IsValidLabelName(c.TenantLabel) {
		err = fmt.Errorf("--receive.tenant-label-name %q is not a label name", c.TenantLabel)
	}
	if err == nil {
		if e := tenant.Validate(c.DefaultTenant); e != nil {
			err = fmt.Errorf("--receive.default-tenant-id: %w", e)
		}
	}
	return flags.Invalid(err)
}

// validateListener checks the web configuration file of the remote write server against
// the flags.
func (c *Config) validateListener() error {
	web, err := webconfig.Open("--remote-write.http-config", c.RemoteWriteConfigFile, nil)
	switch {
	case err != nil:
		return err
	case web.TLS() != nil && c.ServerTLS.Cert != "":
		return errors.New("--remote-write.http-config has a tls_server_config, and --remote-write.server-tls-cert is given: use one of them")
	case c.TenantCertField != "" && c.ServerTLS.ClientCA == "" && !web.VerifiesClients():
		return errors.New("--receive.tenant-certificate-field needs --remote-write.server-tls-client-ca, or client_ca_file in --remote-write.http-config: without it no client shows a certificate")
	}
	return nil
}

// maxForwardWorkers bounds the messages under way to one peer.
const maxForwardWorkers = 1000

func (c *Config) validateRing() error {
	switch {
	case c.ReplicationFactor < 1:
		return fmt.Errorf("--receive.replication-factor is %d; it must be at least 1", c.ReplicationFactor)
	case !c.hasRing() && c.ReplicationFactor > 1:
		return fmt.Errorf("--receive.replication-factor is %d, but there is no hashring: give --receive.hashrings-file or --receive.members", c.ReplicationFactor)
	case c.discovers() && (c.HashringsFile != "" || c.Hashrings != ""):
		return errors.New("--receive.members and --receive.hashrings-file or --receive.hashrings exclude each other")
	case c.discovers() && (c.MembersInterval <= 0 || c.MembersTimeout < c.MembersInterval):
		return errors.New("--receive.members-interval must be above 0 and at most --receive.members-timeout")
	case c.LocalEndpoint != "" && !strings.Contains(c.LocalEndpoint, ":"):
		return fmt.Errorf("--receive.local-endpoint %q is not of the form host:port", c.LocalEndpoint)
	case c.HashringsFile != "" && c.HashringRefresh <= 0:
		return errors.New("--receive.hashrings-file-refresh-interval must be above 0")
	case c.ForwardWorkers < 0 || c.ForwardWorkers > maxForwardWorkers:
		return fmt.Errorf("--receive.forward.async-workers is %d; it must be from 0 to %d", c.ForwardWorkers, maxForwardWorkers)
	case c.ForwardTimeout <= 0 || c.ForwardMaxBackoff <= 0:
		return errors.New("--receive-forward-timeout and --receive-forward-max-backoff must be above 0")
	}
	return nil
}

// Bounds above which the TSDB fails with the first write.
const (
	maxOutOfOrderCap = 255
	maxExemplars     = 100_000_000
)

func (t *TSDBConfig) validate() error {
	switch {
	case t.Path == "":
		return errors.New("--tsdb.path is empty")
	case t.OutOfOrderCap < 0 || t.OutOfOrderCap > maxOutOfOrderCap:
		return fmt.Errorf("--tsdb.out-of-order.cap-max is %d; it must be from 0, for the default, to %d", t.OutOfOrderCap, maxOutOfOrderCap)
	case t.MaxExemplars > maxExemplars:
		return fmt.Errorf("--tsdb.max-exemplars is %d; each tenant takes memory for all of them at once, so it must be at most %d", t.MaxExemplars, maxExemplars)
	case t.MinBlock <= 0 || t.MaxBlock < t.MinBlock:
		return errors.New("--tsdb.min-block-duration must be above 0 and at most --tsdb.max-block-duration")
	}
	return nil
}

// derivedLabel is the external label of a node without --label. It is not
// "replica": the series of an HA pair carry that themselves, and an external
// label would hide it. The querier removes it like any other replica label.
const derivedLabel = "receive_replica"

// external returns the external labels of this node: those of --label, or the
// host's name.
func (c *Config) external(hostname string) labels.Labels {
	if ls := c.Labels.Labels(); !ls.IsEmpty() {
		return ls
	}
	return labels.FromStrings(derivedLabel, hostname)
}
