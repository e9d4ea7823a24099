package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/tombstones"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/blockrewrite"
	"github.com/hindsight-io/hindsight/pkg/blockstat"
	"github.com/hindsight-io/hindsight/pkg/bucketadmin"
	"github.com/hindsight-io/hindsight/pkg/flags"
)

// edits are the changes of tools bucket rewrite.
type edits struct {
	deletions []blockrewrite.DeletionEntry
	rules     []*relabel.Config
}

// readEdits reads the configurations of the command; at least one must be given.
func readEdits(deletions, relabelling *flags.PathOrContent) (e edits, err error) {
	content, err := deletions.Content()
	if err != nil {
		return e, err
	}
	if e.deletions, err = parseDeletions(content); err != nil {
		return e, fmt.Errorf("%s: %w", deletions.Source(), err)
	}
	if e.rules, err = flags.RelabelRules(relabelling); err != nil {
		return e, err
	}
	if len(e.deletions)+len(e.rules) == 0 {
		return e, errors.New("nothing to change: give --rewrite.to-delete-config-file or --rewrite.to-relabel-config-file")
	}
	return e, nil
}

// parseDeletions reads the YAML of --rewrite.to-delete-config.
func parseDeletions(content []byte) ([]blockrewrite.DeletionEntry, error) {
	var list []struct {
		Matchers  string `yaml:"matchers"`
		Intervals []struct {
			Mint int64 `yaml:"mint"`
			Maxt int64 `yaml:"maxt"`
		} `yaml:"intervals"`
		RequestID string `yaml:"request_id"`
	}
	if err := flags.DecodeYAML(content, &list); err != nil {
		return nil, err
	}
	var out []blockrewrite.DeletionEntry
	for i, d := range list {
		matchers, err := labelMatchers("matchers", d.Matchers)
		if err != nil {
			return nil, fmt.Errorf("deletion %d: %w", i+1, err)
		}
		if len(matchers) == 0 {
			return nil, fmt.Errorf("deletion %d has no matchers, and would delete everything", i+1)
		}
		e := blockrewrite.DeletionEntry{Matchers: matchers, RequestID: d.RequestID}
		for _, iv := range d.Intervals {
			if iv.Mint > iv.Maxt {
				return nil, fmt.Errorf("deletion %d: an interval ends at %d, before it begins at %d", i+1, iv.Maxt, iv.Mint)
			}
			e.Intervals = e.Intervals.Add(tombstones.Interval{Mint: iv.Mint, Maxt: iv.Maxt})
		}
		out = append(out, e)
	}
	return out, nil
}

// deleted returns the intervals of a series that are deleted. A matcher needs the series
// to have its label, also if it would match an empty value.
func (e *edits) deleted(lset labels.Labels) tombstones.Intervals {
	var out tombstones.Intervals
	for _, d := range e.deletions {
		all := true
		for _, m := range d.Matchers {
			all = all && lset.Has(m.Name) && m.Matches(lset.Get(m.Name))
		}
		switch {
		case !all:
		case len(d.Intervals) == 0:
			return tombstones.Intervals{{Mint: -1 << 63, Maxt: 1<<63 - 1}}
		default:
			for _, iv := range d.Intervals {
				out = out.Add(iv)
			}
		}
	}
	return out
}

// of returns the changes of a block. onChange may be nil.
func (e *edits) of(onChange func(blockrewrite.Change)) blockrewrite.Edits {
	out := blockrewrite.Edits{Deleted: e.deleted, OnChange: onChange}
	if len(e.rules) > 0 {
		out.Relabel = func(lset labels.Labels) labels.Labels {
			b := labels.NewBuilder(lset)
			if !relabel.ProcessBuilder(b, e.rules...) {
				return labels.EmptyLabels()
			}
			return b.Labels()
		}
	}
	return out
}

// entry is what meta.json says about the changes.
func (e *edits) entry() blockrewrite.Entry {
	return blockrewrite.Entry{Deletions: e.deletions, Relabels: e.rules}
}

// earlier returns the block that an interrupted run with the same changes has made of m,
// or nil.
func (r *rewriteRun) earlier(m *block.Meta) *block.Meta {
	e := r.edit.entry()
	e.Sources = append(e.Sources, m.ULID)
	want, err := json.Marshal(e)
	if err != nil {
		return nil
	}
	for _, other := range r.view.Metas {
		var entries []json.RawMessage
		if r.view.Deletion[other.ULID] != nil || json.Unmarshal(other.Thanos.Rewrites, &entries) != nil || len(entries) == 0 {
			continue
		}
		var last bytes.Buffer
		if json.Compact(&last, entries[len(entries)-1]) == nil && bytes.Equal(last.Bytes(), want) {
			return other
		}
	}
	return nil
}

// successor returns a block that was made by rewriting m, or nil. Of two that are made of
// one, the compactor keeps only the older: the changes of the other would be lost.
func (r *rewriteRun) successor(m *block.Meta) *block.Meta {
	for _, other := range r.view.Metas {
		if r.view.Deletion[other.ULID] != nil || other.RewriteCount() <= m.RewriteCount() {
			continue
		}
		if slices.ContainsFunc(other.Compaction.Parents, func(p tsdb.BlockDesc) bool { return p.ULID == m.ULID }) {
			return other
		}
	}
	return nil
}

// one rewrites one block. The steps are: a checked download, the rewriting, a check of the
// result, the upload, a check of its sizes, and the mark of the source. After a crash
// before the upload has ended, nothing refers to what it left; after it, the next run finds
// the result.
func (r *rewriteRun) one(ctx context.Context, m *block.Meta) (row rewriteRow, err error) {
	row = rewriteRow{Block: m.ULID.String()}
	if done := r.earlier(m); done != nil {
		row.Rewritten, row.Result = done.ULID.String(), "rewritten before"
		return row, r.markSource(ctx, m, &row)
	}
	dir, err := os.MkdirTemp(r.dir, "block-")
	if err != nil {
		return row, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	src, dest := filepath.Join(dir, "source"), filepath.Join(dir, "rewritten")
	if _, err := block.Download(ctx, r.bkt, m.ULID, src, block.DownloadConfig{}); err != nil {
		return row, err
	}
	if _, err := block.Verify(ctx, src); err != nil {
		return row, err
	}
	res, err := r.rewrite(ctx, m, src, dest, &row)
	if err != nil {
		return row, err
	}
	row.ChangedSeries, row.RemovedSeries, row.RemovedSamples = res.ChangedSeries, res.RemovedSeries, res.RemovedSamples
	switch {
	case !res.Changed():
		row.Result = "nothing to change"
		return row, nil
	case r.dryRun:
		row.Result = "not rewritten: dry run"
		return row, nil
	case res.Stats.NumSeries == 0 && m.Shard().Count == 0: // without a shard its set would be incomplete
		if row.Result = "not rewritten: no series would be left, --delete-blocks deletes the block"; r.deleteBlocks {
			row.Result = "no series is left"
			return row, r.markSource(ctx, m, &row)
		}
		return row, nil
	}
	if next := r.successor(m); next != nil {
		return row, fmt.Errorf("block %s was rewritten before, with other changes, as block %s: give the --id of that one, or mark it for deletion", m.ULID, next.ULID)
	}
	return row, r.publish(ctx, m, dest, res, &row)
}

// rewrite writes the result into dest, or in a dry run only counts, and writes the change
// log.
func (r *rewriteRun) rewrite(ctx context.Context, m *block.Meta, src, dest string, row *rewriteRow) (res blockrewrite.Result, err error) {
	var onChange func(blockrewrite.Change)
	if r.changeLog {
		row.ChangeLog = filepath.Join(r.dir, m.ULID.String()+".change.log")
		f, err := os.Create(row.ChangeLog)
		if err != nil {
			return res, fmt.Errorf("make change log: %w", err)
		}
		w := bufio.NewWriter(f)
		defer func() { err = errors.Join(err, w.Flush(), f.Close()) }()
		onChange = func(c blockrewrite.Change) { logChange(w, c) }
	}
	if r.dryRun {
		return blockrewrite.Preview(ctx, src, m, r.edit.of(onChange))
	}
	return blockrewrite.Rewrite(ctx, src, m, dest, r.edit.of(onChange))
}

// logChange writes a line of the change log. An error shows when the log is flushed.
func logChange(w *bufio.Writer, c blockrewrite.Change) {
	if len(c.Deleted) > 0 || c.After.IsEmpty() {
		fmt.Fprintf(w, "Deleted %s %v\n", c.Before, c.Deleted)
	}
	if !c.After.IsEmpty() && !labels.Equal(c.Before, c.After) {
		fmt.Fprintf(w, "Relabelled %s %s\n", c.Before, c.After)
	}
}

// publish describes, checks and uploads the result, and marks the source.
func (r *rewriteRun) publish(ctx context.Context, m *block.Meta, dest string, res blockrewrite.Result, row *rewriteRow) error {
	made, err := blockrewrite.Describe(dest, m, res.Stats, blockrewrite.Lineage{
		Source: block.SourceBucketRewrite, Entry: r.edit.entry(), Now: r.now(),
	})
	if err != nil {
		return err
	}
	// After relabelling, the matchers are about other labels than those of the result.
	deleted := r.edit.deleted
	if len(r.edit.rules) > 0 {
		deleted = func(labels.Labels) tombstones.Intervals { return nil }
	}
	if err := blockrewrite.Check(ctx, dest, made, deleted); err != nil {
		return err
	}
	if _, err := block.Upload(ctx, r.bkt, dest, block.UploadConfig{Hash: r.hashFunc != ""}); err != nil {
		return err
	}
	up, sizes, err := blockstat.FindBlock(ctx, r.bkt, made.ULID)
	if err != nil {
		return err
	}
	if found := bucketadmin.CheckSizes(up, sizes); len(found) > 0 {
		return fmt.Errorf("rewritten block %s is damaged in the bucket: %s", made.ULID, found[0].Details)
	}
	row.Rewritten, row.Result = made.ULID.String(), "rewritten"
	return r.markSource(ctx, m, row)
}

// markSource marks the source for deletion with --delete-blocks.
func (r *rewriteRun) markSource(ctx context.Context, m *block.Meta, row *rewriteRow) error {
	if !r.deleteBlocks || r.dryRun {
		return nil
	}
	details := "tools bucket rewrite: no series is left"
	if row.Rewritten != "" {
		details = "tools bucket rewrite: rewritten as block " + row.Rewritten
	}
	marked, err := block.MarkDeletion(ctx, r.bkt, m.ULID, details, r.now())
	if err != nil {
		return err
	}
	row.Result += either(marked, ", source marked for deletion", ", source is marked for deletion")
	return nil
}
