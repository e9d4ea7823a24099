package block

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/reason"
)

// maxMarkSize is the largest size of a mark in bytes.
const maxMarkSize = 1 << 20

// maxDeletionTime is the last second of the year 9999.
const maxDeletionTime = 253402300799

// markVersion is the only version of marks that exists.
const markVersion = 1

// Reasons of no-compact and no-downsample marks, as Thanos defines them; those that
// this program writes.
const (
	MarkManual          = "manual"
	MarkOutOfOrderChunk = "block-index-out-of-order-chunk"
)

// Cause is why a block must not be compacted or downsampled: one of the reasons above,
// and a free text.
type Cause struct{ Reason, Details string }

// Mark is one of DeletionMark, NoCompactMark and NoDownsampleMark.
type Mark interface {
	// File is the name of the mark's object within its block.
	File() string
	header() (ulid.ULID, int)
}

// File implements Mark.
func (*DeletionMark) File() string { return DeletionMarkFile }

// File implements Mark.
func (*NoCompactMark) File() string { return NoCompactMarkFile }

// File implements Mark.
func (*NoDownsampleMark) File() string { return NoDownsampleMarkFile }

func (m *DeletionMark) header() (ulid.ULID, int)     { return m.ID, m.Version }
func (m *NoCompactMark) header() (ulid.ULID, int)    { return m.ID, m.Version }
func (m *NoDownsampleMark) header() (ulid.ULID, int) { return m.ID, m.Version }

// parseMark decodes the mark of block id from data into m. A mark that is
// malformed, of an unknown version or of another block is a *CorruptError.
func parseMark(data []byte, id ulid.ULID, m Mark) error {
	bad := func(err error) error {
		return &CorruptError{ID: id, Reason: reason.BlockMarkMalformed, Err: fmt.Errorf("%s: %w", m.File(), err)}
	}
	if err := json.Unmarshal(data, m); err != nil {
		return bad(err)
	}
	return CheckMark(id, m)
}

// CheckMark checks that a decoded mark can be the mark of block id; its errors are
// those of ReadMark. It refuses a deletion mark whose time is missing or outside the
// years 1970 to 9999, because it would delete the block at once.
func CheckMark(id ulid.ULID, m Mark) error {
	bad := func(err error) error {
		return &CorruptError{ID: id, Reason: reason.BlockMarkMalformed, Err: fmt.Errorf("%s: %w", m.File(), err)}
	}
	got, version := m.header()
	if version != markVersion {
		return bad(fmt.Errorf("version is %d, known is %d", version, markVersion))
	}
	if got != id {
		return bad(fmt.Errorf("it is of block %s", got))
	}
	if d, ok := m.(*DeletionMark); ok && (d.DeletionTime <= 0 || d.DeletionTime > maxDeletionTime) {
		return bad(fmt.Errorf("deletion_time %d is no time between 1970 and 9999", d.DeletionTime))
	}
	return nil
}

// ReadMark reads a mark of block id into m. Without one it returns bucket.ErrNotFound.
func ReadMark(ctx context.Context, r bucket.Reader, id ulid.ULID, m Mark) error {
	data, err := bucket.ReadAll(ctx, r, Path(id, m.File()), maxMarkSize)
	if errors.Is(err, bucket.ErrTooLarge) {
		return &CorruptError{ID: id, Reason: reason.BlockMarkMalformed, Err: err}
	}
	if err != nil {
		return fmt.Errorf("read %s of block %s: %w", m.File(), id, err)
	}
	return parseMark(data, id, m)
}

// Since is the time from which on the delay of a deletion mark counts: the later of its own
// time and that at which its object was written, by the clock of the bucket, zero if unknown.
// The writer takes its time before the upload, which may take long or be tried again, and by
// a clock that may be behind.
func (m *DeletionMark) Since(written time.Time) time.Time {
	if t := time.Unix(m.DeletionTime, 0); t.After(written) {
		return t
	}
	return written
}

// MarkDeletion marks a block for deletion at now and returns true. When the block is
// marked already, it keeps the earlier mark and returns false.
func MarkDeletion(ctx context.Context, b bucket.Bucket, id ulid.ULID, details string, now time.Time) (bool, error) {
	return writeMark(ctx, b, id, &DeletionMark{}, &DeletionMark{
		ID: id, Version: markVersion, Details: details, DeletionTime: now.Unix(),
	})
}

// MarkNoCompact marks a block so that it is not compacted. It keeps an earlier mark and
// then returns false.
func MarkNoCompact(ctx context.Context, b bucket.Bucket, id ulid.ULID, cause Cause, now time.Time) (bool, error) {
	return writeMark(ctx, b, id, &NoCompactMark{}, &NoCompactMark{
		ID: id, Version: markVersion, Details: cause.Details, NoCompactTime: now.Unix(), Reason: cause.Reason,
	})
}

// MarkNoDownsample marks a block so that it is not downsampled. It keeps an earlier mark
// and then returns false.
func MarkNoDownsample(ctx context.Context, b bucket.Bucket, id ulid.ULID, cause Cause, now time.Time) (bool, error) {
	return writeMark(ctx, b, id, &NoDownsampleMark{}, &NoDownsampleMark{
		ID: id, Version: markVersion, Details: cause.Details, NoDownsampleTime: now.Unix(), Reason: cause.Reason,
	})
}

// writeMark writes mark unless a valid one exists, which it reads into old. It replaces
// an object that has the name of a mark and is none.
func writeMark(ctx context.Context, b bucket.Bucket, id ulid.ULID, old, mark Mark) (bool, error) {
	err := ReadMark(ctx, b, id, old)
	if err == nil {
		return false, nil
	}
	if !errors.Is(err, bucket.ErrNotFound) && ReasonOf(err) == "" {
		return false, err
	}
	data, err := json.Marshal(mark)
	if err != nil {
		return false, fmt.Errorf("encode %s of block %s: %w", mark.File(), id, err)
	}
	if err := b.Upload(ctx, Path(id, mark.File()), bytes.NewReader(data), int64(len(data))); err != nil {
		return false, fmt.Errorf("mark block %s with %s: %w", id, mark.File(), err)
	}
	return true, nil
}
