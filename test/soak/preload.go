package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/bucket/provider"
)

// preloadStep is the distance of the samples of the history, in steps.
const preloadStep = 5

// preload uploads blocks of two days each, up to the first step of each stream.
func (r *run) preload(ctx context.Context) (err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen for the history: %w", err)
	}
	p := newProxy("history", r.site.addr("s3", 9000), r.site.net.dial, r.changed)
	r.site.lis = append(r.site.lis, l)
	r.site.run.Go(func() { _ = p.serve(l) })
	bkt, err := provider.Open(ctx, objstore(l.Addr()), slog.New(slog.DiscardHandler), nil)
	if err != nil {
		return fmt.Errorf("open the bucket: %w", err)
	}
	defer func() { err = errors.Join(err, bkt.Close()) }()
	const days = 2 * 24 * 60
	for _, l := range r.ledgers {
		if l.present {
			continue
		}
		for n := 0; n+days <= l.head(); n += days {
			dir := r.site.path("history")
			if err := l.writeBlock(ctx, dir, n, n+days); err != nil {
				return fmt.Errorf("make a block of the history of %s: %w", l.name, err)
			}
			made, err := filepath.Glob(filepath.Join(dir, "*", block.MetaFile))
			if err != nil || len(made) != 1 {
				return fmt.Errorf("the history has %d blocks: %w", len(made), err)
			}
			m, err := block.ReadMetaDir(filepath.Dir(made[0]))
			if err != nil {
				return err
			}
			m.Thanos.Labels = map[string]string{"tenant_id": l.tenant}
			if l.replica != "" {
				m.Thanos.Labels["cluster"], m.Thanos.Labels["replica"] = "ha", l.replica
			}
			m.Thanos.Source = block.SourceBucketUpload
			if err := block.WriteMetaDir(filepath.Dir(made[0]), m); err != nil {
				return err
			}
			if _, err := block.Upload(ctx, bkt, filepath.Dir(made[0]), block.UploadConfig{}); err != nil {
				return err
			}
			if err := os.RemoveAll(dir); err != nil {
				return fmt.Errorf("remove a block of the history: %w", err)
			}
		}
	}
	return nil
}

// writeBlock makes a block of the steps from n up to, not including, end.
func (l *ledger) writeBlock(ctx context.Context, dir string, n, end int) (err error) {
	w, err := tsdb.NewBlockWriter(slog.New(slog.DiscardHandler), dir, l.time(end)-l.time(n))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	app := w.Appender(ctx)
	var at []place
	for i := n; i < end; i += preloadStep {
		for which, s := range l.series {
			if s.kind == late || s.kind == short {
				continue
			}
			var b labels.ScratchBuilder
			for _, x := range l.labels(s, i) {
				b.Add(x.Name, x.Value)
			}
			switch {
			case s.kind == fractions:
				_, err = app.AppendHistogram(0, b.Labels(), l.time(i), nil, s.floatHistogram(i))
			case s.isHistogram():
				_, err = app.AppendHistogram(0, b.Labels(), l.time(i), s.histogram(i, 0).ToIntHistogram(), nil)
			default:
				_, err = app.Append(0, b.Labels(), l.time(i), s.value(i))
			}
			if err != nil {
				return err
			}
			at = append(at, place{which, i})
		}
	}
	if err := app.Commit(); err != nil {
		return err
	}
	// Before the block is visible.
	l.mark(at, acked)
	_, err = w.Flush(ctx)
	return err
}
