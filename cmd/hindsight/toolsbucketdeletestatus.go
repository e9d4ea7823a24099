package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/deletion"
	"github.com/hindsight-io/hindsight/pkg/headlog"
)

// notLookedAt is what --status cannot know.
const notLookedAt = "not looked at: receivers and store gateways without a row, which have not reported; sidecars and their Prometheus servers; caches of other programs; copies of the bucket"

// report lists the places that still have samples of a request, and the nodes that have
// reported that they have none.
func (c *deleteSeriesConfig) report(ctx context.Context, s streams, p *process, bkt bucket.Bucket, id ulid.ULID) error {
	e, err := deletion.Get(ctx, bkt, id)
	if err != nil {
		return noRequest("--status", id, err)
	}
	rows, err := c.blocks(ctx, s, p, bkt, e.Compiled)
	if err != nil {
		return errors.Join(printLeft(s, c.output, rows), err)
	}
	heads, err := headLogs(ctx, bkt, e)
	if err != nil {
		return err
	}
	nodes, err := deletion.Nodes(ctx, bkt, e)
	if err != nil {
		return err
	}
	inBlocks := len(rows) > 0
	rows = append(rows, heads...)
	open, count := len(rows), map[string]int{}
	for _, n := range nodes {
		row := nodeRow(n, inBlocks)
		if row.Left != nothingLeft {
			open++
		}
		count[row.Place]++
		rows = append(rows, row)
	}
	if err := printLeft(s, c.output, rows); err != nil || c.output != outputTable {
		return err
	}
	if open == 0 {
		_, err = fmt.Fprintf(s.out, "no copy is left in the bucket, on %d receivers that have reported, and in the caches of %d store gateways that have; request is %s\n",
			count[placeReceiver], count[placeGateway], e.StateAt(time.Now()))
	}
	if err == nil {
		_, err = fmt.Fprintln(s.out, notLookedAt)
	}
	return err
}

const (
	placeReceiver = "receiver"
	placeGateway  = "store gateway"
	nothingLeft   = "nothing"
)

// nodeRow is what a node has reported. While blocks of the bucket have the samples, a
// gateway may cache them again.
func nodeRow(n deletion.NodeReport, inBlocks bool) leftRow {
	row := leftRow{Place: placeReceiver, Name: n.Node, Left: nothingLeft}
	if n.Role == deletion.RoleStore {
		row.Place = placeGateway
	}
	switch {
	case row.Place == placeReceiver && len(n.Blocks) > 0:
		row.Left = fmt.Sprintf("%d local blocks with hidden samples, until they are out of its retention", len(n.Blocks))
	case row.Place == placeReceiver:
		return row
	case len(n.Blocks) > 0:
		row.Left = fmt.Sprintf("caches of %d deleted blocks, until queries that read them end", len(n.Blocks))
	case n.Waiting || inBlocks:
		row.Left = "perhaps caches of blocks that had the samples; it reports when it has listed the bucket after the request is done"
	default:
		return row
	}
	row.Left += "; as of " + stampOf(n.Time)
	return row
}

// headLogs returns the head logs of sidecars with samples of the time range. Their series
// are not searched: the sidecar removes a piece when a block has its samples.
func headLogs(ctx context.Context, bkt bucket.Bucket, e *deletion.Entry) ([]leftRow, error) {
	var l headlog.Listing
	err := bkt.List(ctx, headlog.Dir, func(o bucket.Object) error {
		l.Add(o.Name, o.Size, o.LastModified)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list head logs: %w", err)
	}
	var rows []leftRow
	for _, g := range l.Generations() {
		pieces := 0
		for _, p := range g.Pieces {
			if p.Kind.HasSamples() && p.MinTime <= e.MaxTime && p.MaxTime >= e.MinTime {
				pieces++
			}
		}
		if pieces == 0 {
			continue
		}
		info, err := headInfo(ctx, bkt, g)
		if err != nil {
			return nil, err
		}
		of := deletion.Target{External: labels.FromMap(info.Labels), MinTime: e.MinTime, MaxTime: e.MaxTime}
		if len(info.Labels) > 0 && deletion.NewSet(e.Compiled).For(of) == nil {
			continue
		}
		rows = append(rows, leftRow{
			Place: "head log", Name: g.Dir(),
			Left: fmt.Sprintf("perhaps: %d pieces of the time range, whose series are not searched, until blocks replace them", pieces),
		})
	}
	return rows, nil
}

// headInfo has no labels when the head log does not say them.
func headInfo(ctx context.Context, bkt bucket.Reader, g *headlog.Generation) (headlog.Info, error) {
	if !g.HasInfo {
		return headlog.Info{}, nil
	}
	name := g.Dir() + "/" + headlog.InfoName
	data, err := bucket.ReadAll(ctx, bkt, name, headlog.MaxInfo)
	if err != nil && !errors.Is(err, bucket.ErrNotFound) && !errors.Is(err, bucket.ErrTooLarge) {
		return headlog.Info{}, fmt.Errorf("read %s: %w", name, err)
	}
	if info, derr := headlog.DecodeInfo(g.Source, data); err == nil && derr == nil {
		return info, nil
	}
	return headlog.Info{}, nil
}
