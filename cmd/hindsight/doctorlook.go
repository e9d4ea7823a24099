package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"github.com/prometheus/common/version"
	"google.golang.org/grpc"

	"github.com/hindsight-io/hindsight/pkg/block/blocklist"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/doctor"
	"github.com/hindsight-io/hindsight/pkg/doctor/doctorhttp"
	"github.com/hindsight-io/hindsight/pkg/flags"
	"github.com/hindsight-io/hindsight/pkg/httpclient"
	"github.com/hindsight-io/hindsight/pkg/sidecar/prom"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storerpc"
	"github.com/hindsight-io/hindsight/pkg/tlsconfig"
)

// endpointFlags say which stores to ask, and how.
type endpointFlags struct {
	addresses []string
	secure    bool
	files     tlsconfig.ClientFiles
}

func (f *endpointFlags) register(r flags.Registrar) {
	r.Flag("endpoint", "Address of a store to ask for its labels and warnings, host:port. Repeatable.").
		PlaceHolder("<address>").StringsVar(&f.addresses)
	r.Flag("grpc-client-tls-secure", "Use TLS towards the stores.").BoolVar(&f.secure)
	r.Flag("grpc-client-tls-skip-verify", "Do not verify the certificates of stores.").BoolVar(&f.files.SkipVerify)
	r.Flag("grpc-client-tls-cert", "Client certificate for the stores.").StringVar(&f.files.Cert)
	r.Flag("grpc-client-tls-key", "Key of the client certificate.").StringVar(&f.files.Key)
	r.Flag("grpc-client-tls-ca", "Certificates of authorities that stores are verified with.").StringVar(&f.files.CA)
	r.Flag("grpc-client-server-name", "Name that the certificates of stores must have.").StringVar(&f.files.ServerName)
}

// prometheusFlags say which Prometheus to ask; none without a URL.
type prometheusFlags struct {
	url    *url.URL
	client flags.PathOrContent
}

func (f *prometheusFlags) register(r flags.Registrar) {
	r.Flag("prometheus.url", "Base URL of a Prometheus server whose external labels are compared with the bucket.").URLVar(&f.url)
	f.client.Register(r, "prometheus.http-client", "how to connect to Prometheus: TLS, credentials, proxy", false)
}

// look reads the bucket, and asks the stores and Prometheus.
func (c *doctorConfig) look(ctx context.Context, p *process, bkt bucket.Bucket) (doctor.Input, error) {
	poller := blocklist.NewPoller(bkt, blocklist.Config{Logger: p.logger})
	if _, err := poller.ReadIndex(ctx, maxIndexAge); err != nil && !errors.Is(err, blocklist.ErrNoIndex) {
		return doctor.Input{}, err
	}
	view, err := poller.Poll(ctx)
	if err != nil {
		return doctor.Input{}, fmt.Errorf("list the blocks: %w", err)
	}
	in, bad, err := doctorhttp.Look(ctx, bkt, view)
	if err != nil {
		return in, err
	}
	for _, err := range bad {
		p.logger.Warn("claim ignored", "err", err)
	}
	if in.Stores, err = c.askStores(ctx, p); err != nil {
		return in, err
	}
	in.Prometheus, err = c.askPrometheus(ctx)
	return in, err
}

// askStores asks each store for its announcement.
func (c *doctorConfig) askStores(ctx context.Context, p *process) ([]doctor.Store, error) {
	var tls *tlsconfig.Client
	if c.endpoints.secure {
		var err error
		if tls, err = tlsconfig.NewClient("doctor", c.endpoints.files, p.logger); err != nil {
			return nil, flags.Invalid(err)
		}
	}
	var out []doctor.Store
	for _, address := range c.endpoints.addresses {
		out = append(out, c.askStore(ctx, address, tls))
	}
	return out, nil
}

func (c *doctorConfig) askStore(ctx context.Context, address string, tls *tlsconfig.Client) doctor.Store {
	s := doctor.Store{Address: address}
	conn, err := grpc.NewClient("dns:///"+address, append(storerpc.DialOptions(), grpc.WithTransportCredentials(tls.Credentials()))...)
	if err == nil {
		ctx, cancel := context.WithTimeout(ctx, c.timeout)
		defer cancel()
		client := storerpc.NewClient(conn, address)
		if err = client.Refresh(ctx); err == nil {
			info := client.Info()
			s.Component, s.LabelSets, s.MaxTime, s.Warnings = info.Component, info.LabelSets, info.MaxTime, info.Warnings
		}
		err = errors.Join(err, conn.Close())
	}
	if err != nil {
		s.Err = oneLine(err)
	}
	return s
}

// askPrometheus asks the server for its external labels; nil when none is configured.
func (c *doctorConfig) askPrometheus(ctx context.Context) (*doctor.Prometheus, error) {
	if c.prometheus.url == nil {
		return nil, nil
	}
	content, err := c.prometheus.client.Content()
	if err != nil {
		return nil, err
	}
	cfg, err := httpclient.Parse(content)
	if err != nil {
		return nil, flags.Invalid(fmt.Errorf("%s: %w", c.prometheus.client.Source(), err))
	}
	client, err := prom.New(c.prometheus.url, cfg, "Hindsight/"+version.Version)
	if err != nil {
		return nil, flags.Invalid(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	out := &doctor.Prometheus{URL: client.URL()}
	if out.Labels, err = client.ExternalLabels(ctx); err != nil {
		out.Err = oneLine(err)
	}
	return out, nil
}
