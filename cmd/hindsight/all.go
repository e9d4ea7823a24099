package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/block/blocklist"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/bucket/provider"
	"github.com/hindsight-io/hindsight/pkg/compact"
	"github.com/hindsight-io/hindsight/pkg/dirlock"
	"github.com/hindsight-io/hindsight/pkg/flags"
	"github.com/hindsight-io/hindsight/pkg/query"
	"github.com/hindsight-io/hindsight/pkg/receive"
	"github.com/hindsight-io/hindsight/pkg/server"
	"github.com/hindsight-io/hindsight/pkg/store"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// allConfig holds the flags of "all" beside those of every role.
type allConfig struct {
	dataDir        string
	labels         flags.LabelSet
	replicaLabels  flags.List
	localRetention flags.Duration
	retention      [3]flags.Duration // raw, 5m, 1h
	limits         flags.PathOrContent
	maxExemplars   int64
	minFreeDisk    flags.Bytes
	selfScrape     bool
	// query holds the limits of queries; the rest of it is not used.
	query query.Config
}

func (c *allConfig) register(r flags.Registrar) {
	r.Flag("data-dir", "Directory of local storage, caches, and the bucket unless another is configured.").
		Default("./data").StringVar(&c.dataDir)
	r.Flag("label", `External label of the blocks, as name="value"; may be repeated. Without any: receive_replica="all".`).
		SetValue(&c.labels)
	r.Flag("query.replica-label", "Label that distinguishes replicas, removed from answers; may be repeated. "+
		"Without any: replica, prometheus_replica and receive_replica.").SetValue(&c.replicaLabels)
	r.Flag("tsdb.retention", "How long data that is in the bucket is kept in local storage as well.").
		Default("24h").SetValue(&c.localRetention)
	r.Flag("tsdb.max-exemplars", "Exemplars kept for each tenant; 0 is off.").Default("0").Int64Var(&c.maxExemplars)
	r.Flag("tsdb.min-free-disk", "Refuse writes as unavailable while the disk has less free space; 0 is off.").Default("256MB").SetValue(&c.minFreeDisk)
	for i, res := range []string{"raw", "5m", "1h"} {
		r.Flag("retention.resolution-"+res, "How long "+res+" data is kept in the bucket; 0d is for ever.").
			Default("0d").SetValue(&c.retention[i])
	}
	c.limits.Register(r, "receive.limits-config", "limits of writes", true)
	r.Flag("self-scrape", "Store the metrics of this process, so that queries have data from the first minute.").
		Default("true").BoolVar(&c.selfScrape)
	c.query.RegisterLimitFlags(r)
}

// allCommand adds the command that runs four roles in one process.
func allCommand(app *kingpin.Application) command {
	cmd := app.Command("all", "Receive, store, query and compact in one process on a bucket in a directory: for the quick start and for small installations.")
	var role roleConfig
	var c allConfig
	role.register(cmd, true)
	role.registerBucket(cmd)
	c.register(cmd)
	return command{name: "all", run: func(ctx context.Context, s streams) error {
		p, err := newProcess(ctx, role, s)
		if err != nil {
			return err
		}
		defer p.close()
		comp, err := newAll(ctx, p, &c, flagValues(cmd))
		if err != nil {
			return err
		}
		deps := p.serverDeps()
		deps.Started = func(a server.Addresses) {
			comp.instance = a.HTTP
			greet(s.out, a)
		}
		return server.Run(ctx, role.server, comp, deps)
	}}
}

// newAll builds the four roles on one bucket.
func newAll(ctx context.Context, p *process, c *allConfig, shown map[string]string) (*all, error) {
	if c.labels.Labels().IsEmpty() {
		c.labels = flags.NewLabelSet(labels.Label{Name: "receive_replica", Value: "all"})
	}
	if len(c.replicaLabels.Values()) == 0 {
		c.replicaLabels = flags.NewList("replica", "prometheus_replica", "receive_replica")
	}
	if err := c.lock(p); err != nil {
		return nil, err
	}
	bkt, err := p.bucket(ctx)
	if err != nil {
		return nil, err
	}
	if bkt == nil {
		if bkt, err = provider.Open(ctx, directoryBucket(c.dataDir), p.logger, p.registry); err != nil {
			return nil, fmt.Errorf("open the bucket below --data-dir: %w", err)
		}
		p.closers = append(p.closers, bkt.Close)
	}
	a := &all{logger: p.logger, selfScrape: c.selfScrape, gatherer: p.registry}
	if err := a.build(p, c, bkt, shown); err != nil {
		return nil, err
	}
	return a, nil
}

// lock locks the data directory, and below it the directories of the roles, which a
// process of a single role may use.
func (c *allConfig) lock(p *process) error {
	return errors.Join(
		p.lock(dirlock.Whole, c.dataDir, "all"),
		p.lock(dirlock.Whole, filepath.Join(c.dataDir, "receive"), "receive"),
		p.lock(dirlock.Part, filepath.Join(c.dataDir, "store"), "store"),
		p.lock(dirlock.Part, filepath.Join(c.dataDir, "compact"), "compact"),
	)
}

// directoryBucket returns an object storage configuration in YAML.
func directoryBucket(dataDir string) []byte {
	return fmt.Appendf(nil, "type: FILESYSTEM\nconfig:\n  directory: %q\n", filepath.Join(dataDir, "bucket"))
}

// build makes the roles, each with its default configuration and the few values that
// "all" sets.
func (a *all) build(p *process, c *allConfig, bkt bucket.Bucket, shown map[string]string) error {
	rc := receive.DefaultConfig()
	rc.RemoteWriteAddress = "" // served on the one HTTP port
	rc.Labels = c.labels
	rc.Limits = c.limits
	rc.TSDB.Path = filepath.Join(c.dataDir, "receive")
	rc.TSDB.Retention = c.localRetention
	rc.TSDB.MaxExemplars = c.maxExemplars
	rc.TSDB.MinFreeDisk = c.minFreeDisk
	rc.TSDB.Columns = false // requests to a directory cost nothing that columns could save
	var err error
	a.receive, err = receive.New(rc, receive.Deps{Logger: p.logger, Registerer: p.registererOf("receive"), Bucket: bkt})
	if err != nil {
		return err
	}

	sc := store.DefaultConfig()
	sc.DataDir = filepath.Join(c.dataDir, "store")
	sc.SyncInterval = time.Minute
	sc.DiskCacheSize = 0 // the bucket is a directory already
	a.store, err = store.New(sc, store.Deps{
		Logger: p.logger, Registerer: p.registererOf("store"), Bucket: bkt,
		Poller: blocklist.NewPoller(bkt, blocklist.Config{Logger: p.logger, Registerer: p.registererOf("store")}),
	})
	if err != nil {
		return err
	}

	cc := compact.DefaultConfig()
	cc.Wait = true
	cc.DataDir = filepath.Join(c.dataDir, "compact")
	cc.ConsistencyDelay = 0 // the directory shows new objects at once
	cc.RetentionRaw, cc.Retention5m, cc.Retention1h = c.retention[0], c.retention[1], c.retention[2]
	if a.compact, err = compact.New(cc, compact.Deps{Logger: p.logger, Registerer: p.registererOf("compact"), Bucket: bkt}); err != nil {
		return err
	}

	qc := query.DefaultConfig()
	qc.ReplicaLabels = c.replicaLabels
	qc.AutoDownsampling = true
	qc.TakeLimits(&c.query)
	if err := qc.Validate(); err != nil {
		return err
	}
	a.query, err = query.New(qc, query.Deps{
		Logger: p.logger, Registerer: p.registererOf("query"), Gatherer: p.registry, Flags: shown,
		LocalStores: []storeapi.Store{receiveStore(a.receive), a.store.Store()},
		Pages:       []string{"blocks", "compaction", "ring", "tenants"},
	})
	return err
}

// receiveStore returns a Store with the samples, exemplars, metadata and statistics
// of a receiver.
func receiveStore(r *receive.Receive) storeapi.Store {
	type parts struct {
		storeapi.Store
		storeapi.ExemplarStore
		storeapi.MetadataStore
		storeapi.TSDBStatusStore
	}
	s := r.Store()
	exemplars, ok := s.(storeapi.ExemplarStore)
	if !ok {
		return s
	}
	return parts{s, exemplars, r.Metadata(), r.TSDBStatus()}
}
