package query

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hindsight-io/hindsight/pkg/flags"
	"github.com/hindsight-io/hindsight/pkg/grpcsnappy"
	"github.com/hindsight-io/hindsight/pkg/query/endpoint"
)

// EndpointsConfig says which stores there are and how to connect to them.
type EndpointsConfig struct {
	Endpoints    []string
	Stores       []string
	Strict       []string
	Groups       []string
	GroupsStrict []string
	Injected     []string
	SDFiles      []string
	SDInterval   flags.Duration
	DNSInterval  flags.Duration
	Unhealthy    flags.Duration
	Hedge        bool
	Expected     flags.Duration
	InfoTimeout  flags.Duration
	Config       flags.PathOrContent
	ConfigReload flags.Duration
	TLS          bool
	SkipVerify   bool
	CertFile     string
	KeyFile      string
	CAFile       string
	ServerName   string
	Compression  string
	MinVersion   string
}

// registerFlags registers the flags that name the stores, and those of the
// connections to them.
func (c *EndpointsConfig) registerFlags(r flags.Registrar) {
	r.Flag("endpoint", "Address of a store, host:port; a prefix of dns+, dnssrv+ or dnssrvnoa+ finds addresses by DNS. Repeatable.").
		PlaceHolder("<address>").StringsVar(&c.Endpoints)
	r.Flag("store", "Old name of --endpoint. Repeatable.").Hidden().StringsVar(&c.Stores)
	r.Flag("endpoint-strict", "Address of a store that requests must not lack: one that needs its data fails when it is missing, also with partial_response=true. Repeatable.").
		PlaceHolder("<address>").StringsVar(&c.Strict)
	r.Flag("endpoint-group", "DNS name of several addresses that are one logical store, queried in turn. Repeatable.").
		PlaceHolder("<name:port>").StringsVar(&c.Groups)
	r.Flag("endpoint-group-strict", "The same; requests that need its data fail when it is missing, as with --endpoint-strict. Repeatable.").
		PlaceHolder("<name:port>").StringsVar(&c.GroupsStrict)
	r.Flag("endpoint-group.hedge", "Ask a second address of an endpoint group for series when the first fails, or has not begun its answer within the 95th percentile of recent waits (at least 50ms; at most 5% of the requests).").
		Default("true").BoolVar(&c.Hedge)
	r.Flag("inject-test-addresses", "More endpoints. Repeatable.").Hidden().StringsVar(&c.Injected)
	r.Flag("store.sd-files", "Pattern of files with addresses of stores, in the format of Prometheus's file discovery. Repeatable.").
		PlaceHolder("<path>").StringsVar(&c.SDFiles)
	r.Flag("store.sd-interval", flags.Ignored("the files are read again at every refresh of the stores")).
		Default("5m").SetValue(&c.SDInterval)
	r.Flag("store.sd-dns-interval", "How often DNS names are looked up again.").
		Default("30s").SetValue(&c.DNSInterval)
	r.Flag("store.unhealthy-timeout", flags.Ignored("missing stores stay as long as they are named, and then for --store.expected-timeout")).
		Default("5m").SetValue(&c.Unhealthy)
	r.Flag("store.expected-timeout", "How long a store that DNS or a discovery file no longer names is still asked or, if it does not answer, reported as missing. DELETE /api/v1/stores?address=<address> removes one at once.").
		Default("24h").SetValue(&c.Expected)
	r.Flag("endpoint.info-timeout", "Interval and timeout of the Info call to each store.").
		Hidden().Default("5s").SetValue(&c.InfoTimeout)
	c.Config.Register(r, "endpoint.sd-config", "endpoints and how to connect to each", false)
	r.Flag("endpoint.sd-config-reload-interval", "How often that file is read again.").
		Default("5m").SetValue(&c.ConfigReload)

	r.Flag("grpc-client-tls-secure", "Use TLS towards the stores.").BoolVar(&c.TLS)
	r.Flag("grpc-client-tls-skip-verify", "Do not verify the certificates of stores.").BoolVar(&c.SkipVerify)
	r.Flag("grpc-client-tls-cert", "Client certificate for the stores.").StringVar(&c.CertFile)
	r.Flag("grpc-client-tls-key", "Key of the client certificate.").StringVar(&c.KeyFile)
	r.Flag("grpc-client-tls-ca", "Certificates of authorities that stores are verified with.").StringVar(&c.CAFile)
	r.Flag("grpc-client-server-name", "Name that the certificates of stores must have.").StringVar(&c.ServerName)
	r.Flag("grpc-client-tls-min-version", "Lowest version of TLS.").Default("1.3").EnumVar(&c.MinVersion, "1.0", "1.1", "1.2", "1.3")
	r.Flag("grpc-compression", "Compression of requests to stores.").
		Default(endpoint.CompressionNone).EnumVar(&c.Compression, endpoint.CompressionNone, grpcsnappy.Name)
}

// specs returns the endpoints that the flags name, each once.
func (c *EndpointsConfig) specs() []endpoint.Spec {
	var out []endpoint.Spec
	seen := map[string]bool{}
	add := func(addrs []string, strict, group bool) {
		for _, a := range addrs {
			if !seen[a] {
				seen[a] = true
				out = append(out, endpoint.Spec{Address: a, Strict: strict, Group: group})
			}
		}
	}
	add(c.Strict, true, false)
	add(c.GroupsStrict, true, true)
	add(c.Groups, false, true)
	add(slices.Concat(c.Endpoints, c.Stores, c.Injected), false, false)
	return out
}

func (c *EndpointsConfig) validate() error {
	var errs []error
	for _, s := range c.specs() {
		errs = append(errs, s.Validate())
	}
	if c.InfoTimeout <= 0 {
		errs = append(errs, errors.New("--endpoint.info-timeout must be more than 0s"))
	}
	if c.SkipVerify && !c.TLS || c.CAFile != "" && !c.TLS {
		errs = append(errs, errors.New("--grpc-client-tls-skip-verify and --grpc-client-tls-ca need --grpc-client-tls-secure"))
	}
	client := c.client()
	errs = append(errs, client.Validate())
	return errors.Join(errs...)
}

func (c *EndpointsConfig) client() endpoint.ClientConfig {
	out := endpoint.ClientConfig{ServerName: c.ServerName, Compression: c.Compression}
	out.TLS = endpoint.TLSConfig{Enabled: &c.TLS, CertFile: c.CertFile, KeyFile: c.KeyFile, CAFile: c.CAFile, MinVersion: c.MinVersion}
	if c.SkipVerify {
		out.TLS.InsecureSkipVerify = &c.SkipVerify
	}
	return out
}

// set opens the set of endpoints.
func (c *EndpointsConfig) set(closeDelay, silence time.Duration, logger *slog.Logger, reg prometheus.Registerer) (*endpoint.Set, error) {
	cfg := endpoint.Config{
		Specs:           c.specs(),
		SDFiles:         c.SDFiles,
		Client:          c.client(),
		FileInterval:    c.ConfigReload.Duration(),
		DNSInterval:     c.DNSInterval.Duration(),
		Interval:        c.InfoTimeout.Duration(),
		ExpectedTimeout: c.Expected.Duration(),
		CloseDelay:      max(closeDelay, c.InfoTimeout.Duration()),
		FrameTimeout:    silence,
		Hedge:           c.Hedge,
		Logger:          logger,
		Registerer:      reg,
	}
	if c.Config.IsSet() {
		cfg.File = func() (*endpoint.File, error) {
			content, err := c.Config.Content()
			if err != nil {
				return nil, err
			}
			return endpoint.ParseFile(c.Config.Source(), content)
		}
	}
	set, err := endpoint.New(cfg)
	if err != nil {
		return nil, flags.Invalid(fmt.Errorf("configure the stores: %w", err))
	}
	return set, nil
}
