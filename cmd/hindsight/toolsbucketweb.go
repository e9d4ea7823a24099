package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/common/version"
	"google.golang.org/grpc"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocklist"
	"github.com/hindsight-io/hindsight/pkg/block/markhttp"
	"github.com/hindsight-io/hindsight/pkg/blockstat/stathttp"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/doctor/doctorhttp"
	"github.com/hindsight-io/hindsight/pkg/flags"
	"github.com/hindsight-io/hindsight/pkg/server"
	"github.com/hindsight-io/hindsight/pkg/ui"
)

// webConfig holds the flags of tools bucket web.
type webConfig struct {
	role         roleConfig
	prefix       string
	refresh      time.Duration
	timeout      time.Duration
	label        string
	times        timeFlags
	selector     selectorFlag
	external     string
	prefixHeader string
	disableCORS  bool
	disableAdmin bool
}

// webCommand adds the command that serves the page of blocks.
func webCommand(group *kingpin.CmdClause) command {
	cmd := group.Command("web", "Serves the page of the blocks of a bucket, read-only.")
	var c webConfig
	c.role.register(cmd, false)
	c.role.registerBucket(cmd)
	cmd.Flag("web.route-prefix", "Path below which the page and its API are served.").StringVar(&c.prefix)
	cmd.Flag("refresh", "Pause between two listings of the bucket.").Default("30m").DurationVar(&c.refresh)
	cmd.Flag("timeout", "Longest time of one listing; 0s is no bound.").Default("5m").DurationVar(&c.timeout)
	cmd.Flag("label", "External label by which the page groups the blocks.").StringVar(&c.label)
	c.times.register(cmd)
	c.selector.register(cmd)
	cmd.Flag("web.external-prefix", flags.Ignored("the links of the pages are relative")).StringVar(&c.external)
	cmd.Flag("web.prefix-header", flags.Ignored("the links of the pages are relative")).StringVar(&c.prefixHeader)
	cmd.Flag("web.disable-cors", flags.Ignored("the server sends no CORS headers")).Default("false").BoolVar(&c.disableCORS)
	cmd.Flag("disable-admin-operations", flags.Ignored("the page is read-only; tools bucket mark marks blocks")).Default("false").BoolVar(&c.disableAdmin)
	return command{name: "web", run: func(ctx context.Context, s streams) error {
		shard, err := c.selector.filter()
		if err != nil {
			return err
		}
		if err := c.times.check(); err != nil {
			return err
		}
		if c.refresh <= 0 {
			return flags.Invalid(errors.New("--refresh must be positive"))
		}
		if err := requireDirectory(&c.role.objstore); err != nil {
			return err
		}
		return runRole(ctx, &c.role, s, func(ctx context.Context, p *process) (server.Component, error) {
			bkt, err := p.requiredBucket(ctx)
			if err != nil {
				return nil, err
			}
			return &blocksWeb{
				cfg: &c, shard: shard, log: p.logger, bkt: bkt,
				poller: blocklist.NewPoller(bkt, blocklist.Config{Logger: p.logger, Registerer: p.registry}),
			}, nil
		})
	}}
}

// blocksWeb is the component of tools bucket web.
type blocksWeb struct {
	cfg    *webConfig
	shard  blocklist.Filter
	log    *slog.Logger
	bkt    bucket.Reader
	poller *blocklist.Poller
	// seen is the last listing without what the flags leave out, whole that with it, and
	// failed the error of a newer one.
	seen, whole atomic.Pointer[blocklist.View]
	failed      atomic.Pointer[string]
}

// RegisterHTTP adds the page and the API of blocks.
func (b *blocksWeb) RegisterHTTP(mux *http.ServeMux) {
	inner := mux
	if prefix := strings.Trim(b.cfg.prefix, "/"); prefix != "" {
		inner = http.NewServeMux()
		mux.Handle("/"+prefix+"/", http.StripPrefix("/"+prefix, inner))
	}
	inner.HandleFunc("GET /api/v1/blocks", b.serveBlocks)
	inner.Handle("GET /api/v1/blocks/cardinality", stathttp.New(b.bkt, b.seen.Load))
	inner.Handle("GET /api/v1/blocks/findings", doctorhttp.New(b.bkt, b.whole.Load, nil))
	ui.New(ui.Config{Role: "bucket", Version: version.Version, Pages: []string{"blocks"}}).RegisterPages(inner)
}

// RegisterGRPC adds nothing.
func (b *blocksWeb) RegisterGRPC(grpc.ServiceRegistrar) {}

// Ready returns an error until the bucket was listed once.
func (b *blocksWeb) Ready() error {
	if b.seen.Load() == nil {
		return errors.New("the bucket was not listed yet")
	}
	return nil
}

// Run lists the bucket in intervals. A failure is logged, shown on the page, and the
// listing before stays.
func (b *blocksWeb) Run(ctx context.Context) error {
	for {
		if err := b.look(ctx); err != nil && ctx.Err() == nil {
			b.log.Error("listing failed", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(b.cfg.refresh):
		}
	}
}

// look lists the bucket once, in the time of --timeout.
func (b *blocksWeb) look(ctx context.Context) error {
	var v *blocklist.View
	err := withTimeout(ctx, b.cfg.timeout, func(ctx context.Context) (err error) {
		v, err = b.poller.Poll(ctx)
		return err
	})
	if err != nil {
		text := fmt.Sprintf("list the blocks of the bucket: %v", err)
		b.failed.Store(&text)
		return err
	}
	b.whole.Store(v)
	v, _ = v.Apply(blocklist.TimePartition(b.cfg.times.millis(time.Now())), b.shard)
	b.failed.Store(nil)
	b.seen.Store(v)
	return nil
}

// serveBlocks lists the blocks of the last listing, in the form of the other roles.
func (b *blocksWeb) serveBlocks(w http.ResponseWriter, _ *http.Request) {
	v := b.seen.Load()
	a := struct {
		Label       string        `json:"label"`
		Blocks      []*block.Meta `json:"blocks"`
		RefreshedAt time.Time     `json:"refreshedAt"`
		Err         *string       `json:"err"`
		markhttp.Details
	}{Label: b.cfg.label, Blocks: []*block.Meta{}, Err: b.failed.Load(), Details: markhttp.Describe(v, false)}
	if v != nil {
		a.RefreshedAt, a.Blocks = v.Taken, append(a.Blocks, sortedMetas(v)...)
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(map[string]any{"status": "success", "data": a}); err != nil {
		b.log.Debug("cannot send answer", "err", err)
	}
}
