package blocklist

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blockcolumns"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/reason"
)

// object is one object of a block as listed.
type object struct {
	rel      string
	size     int64
	modified int64 // unix nanoseconds
	timed    bool  // whether the listing has modified
}

// entry is the state of one block in the poller. Views share the meta and the marks, so
// that a change of the block makes another entry.
type entry struct {
	objects []object
	loaded  bool

	meta    *block.Meta
	partial *block.CorruptError // why there is no meta

	deletion     *block.DeletionMark
	noCompact    *block.NoCompactMark
	noDownsample *block.NoDownsampleMark
	badMarks     int

	// again says that objects may change without a change in the listing, so that the
	// next poll must load the entry again.
	again bool
	// logged is the last error that was logged of the block, to log it once.
	logged string

	sizes map[string]int64
	// fails counts the polls in a row in which the block could not be read.
	fails int
}

// update returns the entry for a new listing of the block: e itself if nothing
// has changed, otherwise one that keeps the meta and marks whose objects are unchanged.
// e may be nil.
func (e *entry) update(objects []object) *entry {
	if e != nil && e.loaded && slices.Equal(e.objects, objects) {
		return e
	}
	next := &entry{objects: slices.Clone(objects)}
	if e == nil {
		return next
	}
	next.logged, next.fails = e.logged, e.fails
	if e.same(next, block.MetaFile) {
		next.meta = e.meta
	}
	if e.badMarks > 0 {
		return next // reads all marks again
	}
	if e.same(next, block.DeletionMarkFile) {
		next.deletion = e.deletion
	}
	if e.same(next, block.NoCompactMarkFile) {
		next.noCompact = e.noCompact
	}
	if e.same(next, block.NoDownsampleMarkFile) {
		next.noDownsample = e.noDownsample
	}
	return next
}

func (e *entry) find(rel string) (object, bool) {
	for _, o := range e.objects {
		if o.rel == rel {
			return o, true
		}
	}
	return object{}, false
}

// same says whether both entries have the object, with equal size and time.
func (e *entry) same(other *entry, rel string) bool {
	a, ok := e.find(rel)
	b, ok2 := other.find(rel)
	return ok && ok2 && a == b
}

// newest returns the time of the newest object, or that of the id if the
// listing has no times.
func (e *entry) newest(id ulid.ULID) time.Time {
	var t int64
	timed := false
	for _, o := range e.objects {
		if o.timed && (!timed || o.modified > t) {
			t, timed = o.modified, true
		}
	}
	if !timed {
		return ulid.Time(id.Time())
	}
	return time.Unix(0, t)
}

// written is the time of an object, if the listing has it.
func (e *entry) written(rel string) (at time.Time, ok bool) {
	o, ok := e.find(rel)
	if !ok || !o.timed {
		return time.Time{}, false
	}
	return time.Unix(0, o.modified), true
}

// load reads meta.json and the marks that are listed and not known.
func (e *entry) load(ctx context.Context, p *Poller, id ulid.ULID) error {
	if e.meta == nil && e.partial == nil {
		if err := e.loadMeta(ctx, p, id); err != nil {
			return err
		}
	}
	if err := e.loadMarks(ctx, p, id); err != nil {
		return err
	}
	e.measure()
	e.loaded = !e.again
	return nil
}

// measure fills in the sizes.
func (e *entry) measure() {
	e.sizes = make(map[string]int64, len(e.objects))
	for _, o := range e.objects {
		e.sizes[o.rel] = o.size
	}
	for rel, size := range e.sizes {
		if o, ok := blockcolumns.ParseName(rel); ok && size < 0 {
			e.sizes[rel] = o.Size
		}
	}
	if e.meta != nil {
		for _, f := range e.meta.Thanos.Files {
			if size, ok := e.sizes[f.RelPath]; ok && size < 0 && f.SizeBytes > 0 {
				e.sizes[f.RelPath] = f.SizeBytes
			}
		}
	}
}

// loadMeta reads meta.json. A missing or unusable one is no error: it makes the block
// partial or unusable.
func (e *entry) loadMeta(ctx context.Context, p *Poller, id ulid.ULID) error {
	missing := &block.CorruptError{ID: id, Reason: reason.BlockMetaMissing, Err: errors.New("meta.json does not exist")}
	o, ok := e.find(block.MetaFile)
	if !ok {
		e.partial = missing
		return nil
	}
	var m *block.Meta
	err := p.twice(func() (err error) {
		m, err = p.readMeta(ctx, id)
		return err
	})
	if errors.Is(err, bucket.ErrNotFound) {
		// Deleted since the listing, and perhaps back at the next.
		e.partial, e.again = missing, true
		return nil
	}
	if errors.Is(err, bucket.ErrPermanent) || errors.Is(err, bucket.ErrAccessDenied) {
		// The bucket refuses this object, for example because it was archived.
		p.refused.Add(1)
		err = &block.CorruptError{ID: id, Reason: reason.BlockMetaRefused, Err: err}
		e.again = true
	}
	if c := (*block.CorruptError)(nil); errors.As(err, &c) {
		e.partial, e.again = c, e.again || !o.timed
		if e.logOnce(c) {
			p.log.Warn("unusable block", "block", id, "reason", c.Reason, "err", c.Err)
		}
		return nil
	}
	e.meta = m
	return err
}

// loadMarks reads the marks that are listed and not known. An unreadable deletion mark
// counts as absent, the other two as present.
func (e *entry) loadMarks(ctx context.Context, p *Poller, id ulid.ULID) error {
	if e.deletion == nil {
		m := &block.DeletionMark{}
		st, err := e.loadMark(ctx, p, id, m)
		if err != nil {
			return err
		}
		if st == markGood {
			e.deletion = m
		}
	}
	if e.noCompact == nil {
		m := &block.NoCompactMark{}
		st, err := e.loadMark(ctx, p, id, m)
		if err != nil {
			return err
		}
		switch st {
		case markGood:
			e.noCompact = m
		case markBad:
			e.noCompact = &block.NoCompactMark{ID: id, Version: 1, Reason: markUnreadable}
		}
	}
	if e.noDownsample == nil {
		m := &block.NoDownsampleMark{}
		st, err := e.loadMark(ctx, p, id, m)
		if err != nil {
			return err
		}
		switch st {
		case markGood:
			e.noDownsample = m
		case markBad:
			e.noDownsample = &block.NoDownsampleMark{ID: id, Version: 1, Reason: markUnreadable}
		}
	}
	return nil
}

// markUnusable makes a block that could not be read unusable, or its marks unreadable,
// until the next poll.
func (e *entry) markUnusable(id ulid.ULID, err error) {
	e.again = true
	if e.meta == nil && e.partial == nil {
		e.partial = &block.CorruptError{ID: id, Reason: reason.BlockMetaRefused, Err: err}
	}
	if _, ok := e.find(block.NoCompactMarkFile); ok && e.noCompact == nil {
		e.badMarks++
		e.noCompact = &block.NoCompactMark{ID: id, Version: 1, Reason: markUnreadable}
	}
	if _, ok := e.find(block.NoDownsampleMarkFile); ok && e.noDownsample == nil {
		e.badMarks++
		e.noDownsample = &block.NoDownsampleMark{ID: id, Version: 1, Reason: markUnreadable}
	}
	e.measure()
}

// logOnce says whether err differs from the last error that was logged of the block.
func (e *entry) logOnce(err error) bool {
	old := e.logged
	e.logged = err.Error()
	return e.logged != old
}

// markUnreadable is the reason of a mark that exists but cannot be decoded. It counts,
// because its writer wanted the block to stay as it is.
const markUnreadable = "unreadable"

// markState is the result of reading a mark.
type markState int

const (
	markAbsent markState = iota
	markGood
	markBad
)

// loadMark reads one mark into m if it is listed.
func (e *entry) loadMark(ctx context.Context, p *Poller, id ulid.ULID, m block.Mark) (markState, error) {
	o, ok := e.find(m.File())
	if !ok {
		return markAbsent, nil
	}
	err := p.twice(func() error { return block.ReadMark(ctx, p.bkt, id, m) })
	switch {
	case err == nil:
		return markGood, nil
	case errors.Is(err, bucket.ErrNotFound):
		e.again = true
		return markAbsent, nil
	case block.ReasonOf(err) != "":
		e.badMarks++
		e.again = e.again || !o.timed
		if e.logOnce(err) {
			p.log.Warn("unreadable mark", "block", id, "file", m.File(), "err", err)
		}
		return markBad, nil
	}
	return markAbsent, err
}
