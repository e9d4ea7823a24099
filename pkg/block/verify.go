package block

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/encoding"
	"github.com/prometheus/prometheus/tsdb/fileutil"
	"github.com/prometheus/prometheus/tsdb/index"

	"github.com/hindsight-io/hindsight/pkg/block/segments"
	"github.com/hindsight-io/hindsight/pkg/reason"
	"github.com/hindsight-io/hindsight/pkg/samplecheck"
)

// Report describes a block whose bytes are sound. It counts chunks with flaws that old
// versions of Prometheus produced: such blocks can be read, but not all of them can be
// compacted as they are.
type Report struct {
	Meta *Meta

	Series, Chunks int
	// The largest entries in bytes, checksums included.
	SeriesMaxSize, ChunkMaxSize int64

	// OutOfOrderChunks begin before or when the chunk before them ends.
	OutOfOrderChunks int
	// DuplicateChunks have the same times as the chunk before them; they are
	// not counted as out of order.
	DuplicateChunks int
	// OutsideChunks have a time outside the block's range.
	OutsideChunks int
	// BoundaryChunks begin exactly at the exclusive end of the block's range;
	// they are not counted as outside.
	BoundaryChunks int
	// Example describes the first chunk counted in one of the four.
	Example string
}

// Flawed says whether any chunk is out of order, a duplicate, or outside the
// block's time range.
func (r *Report) Flawed() bool {
	return r.OutOfOrderChunks+r.DuplicateChunks+r.OutsideChunks+r.BoundaryChunks > 0
}

// Verify reads all of the block in the local directory dir and checks every
// checksum: of the index's symbols, series and postings, and of each chunk that
// the index refers to. Series must be in order and their chunks within their
// segments. A broken block gives a *CorruptError.
func Verify(ctx context.Context, dir string) (*Report, error) {
	return verify(ctx, dir, nil)
}

// VerifySamples is Verify, and decodes all chunks: a checksum does not tell a chunk that its
// writer damaged.
func VerifySamples(ctx context.Context, dir string) (*Report, error) {
	return verify(ctx, dir, &samplecheck.Checker{})
}

func verify(ctx context.Context, dir string, samples *samplecheck.Checker) (*Report, error) {
	m, err := ReadMetaDir(dir)
	if err != nil {
		return nil, err
	}
	v := &verifier{ctx: ctx, report: Report{Meta: m}, samples: samples}
	defer v.close()
	if err := v.run(dir); err != nil {
		return nil, withID(m.ULID, err)
	}
	return &v.report, nil
}

// verifyIndex is Verify for a block whose segments are elsewhere: it checks all of
// the index in the local directory dir, and that each chunk begins within its segment.
// sizes are the sizes of the segments. The report lacks ChunkMaxSize.
func verifyIndex(ctx context.Context, dir string, m *Meta, sizes []int64) (*Report, error) {
	v := &verifier{ctx: ctx, report: Report{Meta: m}, sizes: sizes, indexOnly: true}
	defer v.close()
	err := v.openIndex(dir)
	if err == nil {
		err = v.readIndex()
	}
	if err != nil {
		return nil, withID(m.ULID, err)
	}
	return &v.report, nil
}

type verifier struct {
	ctx    context.Context
	report Report
	// sizes are those of the segments, of which indexOnly reads none.
	sizes     []int64
	indexOnly bool
	samples   *samplecheck.Checker // nil decodes no chunk
	index     byteSlice
	file      *fileutil.MmapFile // the index
	segments  segments.Files
}

func (v *verifier) close() {
	if v.file != nil {
		_ = v.file.Close() // nothing was written
	}
	_ = v.segments.Close()
}

// byteSlice is index.ByteSlice over memory.
type byteSlice []byte

func (b byteSlice) Len() int                    { return len(b) }
func (b byteSlice) Range(start, end int) []byte { return b[start:end] }

func (v *verifier) openIndex(dir string) (err error) {
	path := filepath.Join(dir, IndexFile)
	if v.file, err = fileutil.OpenMmapFile(path); err != nil {
		return v.openErr(reason.BlockIndexCorrupt, path, err)
	}
	v.index = v.file.Bytes()
	return nil
}

func (v *verifier) run(dir string) error {
	if err := v.openIndex(dir); err != nil {
		return err
	}
	names, err := segmentFiles(dir)
	if err != nil {
		return err
	}
	for _, rel := range names {
		path := filepath.Join(dir, filepath.FromSlash(rel))
		err := v.segments.Add(path)
		if errors.Is(err, segments.ErrHeader) {
			return corrupt(reason.BlockSegmentCorrupt, "%s: %w", rel, err)
		}
		if err != nil {
			return v.openErr(reason.BlockSegmentCorrupt, path, err)
		}
	}
	return v.readIndex()
}

// openErr returns a *CorruptError for a file that is missing or empty, which cannot be
// mapped, and another error for one that cannot be opened.
func (v *verifier) openErr(why reason.Reason, path string, err error) error {
	info, serr := os.Stat(path)
	if errors.Is(serr, os.ErrNotExist) || (serr == nil && info.Size() == 0) {
		return corrupt(why, "%s is missing or empty", filepath.Base(path))
	}
	return fmt.Errorf("open %s: %w", path, err)
}

// segmentFiles returns the relative names of the chunk segments in order. Their
// numbers must be consecutive, because chunk references count them.
func segmentFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(dir, ChunksDir))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("list chunk segments: %w", err)
	}
	var names []string
	for _, e := range entries {
		if rel := ChunksDir + "/" + e.Name(); isSegment(rel) && e.Type().IsRegular() {
			names = append(names, rel)
		}
	}
	slices.Sort(names)
	for i, rel := range names {
		if want := SegmentName(i + 1); rel != want {
			return nil, corrupt(reason.BlockSegmentCorrupt, "%s is missing", want)
		}
	}
	return names, nil
}

// readIndex checks the index and the chunks that it refers to. It turns a panic of the
// index decoder into a *CorruptError, because the decoder trusts all bytes that match
// a checksum.
func (v *verifier) readIndex() (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = corrupt(reason.BlockIndexCorrupt, "decoder failed: %v at %.300s", p, debug.Stack())
		}
	}()
	r, err := index.NewReader(v.index, index.DecodePostingsRaw)
	if err != nil {
		return corrupt(reason.BlockIndexCorrupt, "open index: %w", err)
	}
	// The reader need not be closed: the bytes belong to the verifier.
	if err := v.checkPostings(); err != nil {
		return err
	}
	name, value := index.AllPostingsKey()
	all, err := r.Postings(v.ctx, name, value)
	if err != nil {
		return corrupt(reason.BlockIndexCorrupt, "read list of all series: %w", err)
	}
	dec, err := v.decoder(r)
	if err != nil {
		return corrupt(reason.BlockIndexCorrupt, "read symbols: %w", err)
	}
	var (
		builder    labels.ScratchBuilder
		chks       []chunks.Meta
		last, lset labels.Labels
		table      = crc32.MakeTable(crc32.Castagnoli)
		align      = seriesAlign(v.index)
	)
	for all.Next() {
		if v.report.Series%1024 == 0 && v.ctx.Err() != nil {
			return v.ctx.Err()
		}
		entry := encoding.NewDecbufUvarintAt(v.index, int(uint64(all.At())*align), table)
		err := entry.Err()
		if err == nil {
			err = dec.Series(entry.Get(), &builder, &chks)
		}
		if err != nil {
			return corrupt(reason.BlockIndexCorrupt, "read series %d: %w", all.At(), err)
		}
		lset = builder.Labels()
		if err := checkLabels(lset); err != nil {
			return corrupt(reason.BlockSeriesOutOfOrder, "series %s: %w", lset, err)
		}
		if v.report.Series > 0 && labels.Compare(last, lset) >= 0 {
			return corrupt(reason.BlockSeriesOutOfOrder, "series %s comes after %s", lset, last)
		}
		last = lset
		if err := v.checkSeries(all.At(), lset, chks); err != nil {
			return err
		}
	}
	if err := all.Err(); err != nil {
		return corrupt(reason.BlockIndexCorrupt, "read list of all series: %w", err)
	}
	return nil
}

func checkLabels(lset labels.Labels) error {
	prev := ""
	return lset.Validate(func(l labels.Label) error {
		if l.Name <= prev {
			return fmt.Errorf("label %q comes after %q", l.Name, prev)
		}
		prev = l.Name
		return nil
	})
}

func (v *verifier) checkSeries(ref storage.SeriesRef, lset labels.Labels, chks []chunks.Meta) error {
	size, err := seriesSize(v.index, ref)
	if err != nil {
		return corrupt(reason.BlockIndexCorrupt, "series %s: %w", lset, err)
	}
	r := &v.report
	r.Series++
	r.SeriesMaxSize = max(r.SeriesMaxSize, size)
	for i, c := range chks {
		size, err := v.checkChunk(&chks[i])
		if err != nil {
			return corrupt(samplecheck.Reason(err), "series %s, chunk %d of %d: %w", lset, i+1, len(chks), err)
		}
		if c.MinTime > c.MaxTime {
			return corrupt(reason.BlockIndexCorrupt, "series %s, chunk %d of %d: it ends before it begins", lset, i+1, len(chks))
		}
		r.Chunks++
		r.ChunkMaxSize = max(r.ChunkMaxSize, size)
		v.checkTimes(lset, chks, i)
	}
	return nil
}

// checkTimes counts flaws in the order and the range of a chunk.
func (v *verifier) checkTimes(lset labels.Labels, chks []chunks.Meta, i int) {
	r, c := &v.report, chks[i]
	flaw := func(count *int, what string) {
		*count++
		if r.Example == "" {
			r.Example = fmt.Sprintf("series %s: chunk %d [%d, %d] %s", lset, i+1, c.MinTime, c.MaxTime, what)
		}
	}
	switch {
	case i == 0 || c.MinTime > chks[i-1].MaxTime:
	case c.MinTime == chks[i-1].MinTime && c.MaxTime == chks[i-1].MaxTime:
		flaw(&r.DuplicateChunks, "has the times of the chunk before it")
	default:
		flaw(&r.OutOfOrderChunks, "begins before the end of the chunk before it")
	}
	switch {
	case c.MinTime >= r.Meta.MinTime && c.MaxTime < r.Meta.MaxTime:
	case c.MinTime == r.Meta.MaxTime:
		flaw(&r.BoundaryChunks, "begins at the end of the block")
	default:
		flaw(&r.OutsideChunks, "is outside the block")
	}
}
