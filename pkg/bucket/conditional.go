package bucket

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/hindsight-io/hindsight/pkg/errorid"
)

// Errors of conditional writes; test with errors.Is.
var (
	// ErrChanged says that a conditional write found another version of the object than
	// the expected one, and wrote nothing.
	ErrChanged = errorid.Sentinel(errorid.BucketChanged, "object has changed")
	// ErrNoConditions says that the bucket has no conditional writes.
	ErrNoConditions = errorid.Sentinel(errorid.BucketNoConditions, "bucket has no conditional writes")
)

// Version identifies one content of an object. It is opaque, and only the bucket that
// returned it can compare it. NoVersion is that of an object that does not exist.
type Version string

// NoVersion is the version of an object that does not exist.
const NoVersion Version = ""

// Conditional writes small objects under conditions. All methods may be called
// concurrently, also by other processes. Objects that are written conditionally must not
// be written by Upload as well.
type Conditional interface {
	// GetVersion returns an object of at most limit bytes with its version.
	GetVersion(ctx context.Context, name string, limit int64) ([]byte, Version, error)
	// PutIf writes the object if its version is old, and returns the new version; with
	// NoVersion it creates the object. It returns ErrChanged if the object has another
	// version, and ErrNoConditions if the bucket cannot compare. Of several writes with
	// one old version at most one succeeds. Any other error leaves open whether data was
	// stored; so does ErrChanged after a lost answer, if another write has replaced it.
	//
	// No two writes may have equal data, because versions are hashes of the content in
	// some buckets, and because a write whose answer was lost is recognised by its
	// content: data must have a nonce.
	PutIf(ctx context.Context, name string, data []byte, old Version) (Version, error)
}

// Conditions returns the conditional writes of b. If b has none, all calls return
// ErrNoConditions. A bucket that implements Conditional may do so as well; see
// ProbeConditions.
func Conditions(b Bucket) Conditional {
	if c, ok := b.(Conditional); ok {
		return c
	}
	return unconditional{}
}

type unconditional struct{}

func (unconditional) GetVersion(context.Context, string, int64) ([]byte, Version, error) {
	return nil, NoVersion, ErrNoConditions
}

func (unconditional) PutIf(context.Context, string, []byte, Version) (Version, error) {
	return NoVersion, ErrNoConditions
}

// probeLimit bounds the size of the object that ProbeConditions reads.
const probeLimit = 1 << 10

// ProbeConditions writes and deletes a new object below the directory dir to find out
// whether b compares versions: some servers accept the conditions of a request and ignore
// them. It returns ErrNoConditions if b does not compare, and any other error if it could
// not find out.
func ProbeConditions(ctx context.Context, b Bucket, dir string) (err error) {
	c := Conditions(b)
	name := dir + "/probe-" + rand.Text()
	content := func(step string) []byte { return []byte(step + " " + rand.Text()) }
	first, err := c.PutIf(ctx, name, content("first"), NoVersion)
	if err != nil {
		return fmt.Errorf("probe conditional writes: %w", err)
	}
	defer func() {
		if derr := b.Delete(ctx, name); derr != nil {
			err = errors.Join(err, fmt.Errorf("delete the object of the probe of conditional writes: %w", derr))
		}
	}()
	_, err = c.PutIf(ctx, name, content("again"), NoVersion)
	if err := refused(err, "ignores that an object exists"); err != nil {
		return err
	}
	want := content("second")
	second, err := c.PutIf(ctx, name, want, first)
	if err != nil {
		return fmt.Errorf("probe conditional writes: replace an unchanged object: %w", err)
	}
	_, err = c.PutIf(ctx, name, content("stale"), first)
	if err := refused(err, "ignores the version of an object"); err != nil {
		return err
	}
	data, v, err := c.GetVersion(ctx, name, probeLimit)
	if err != nil {
		return fmt.Errorf("probe conditional writes: %w", err)
	}
	if v != second || !bytes.Equal(data, want) {
		return fmt.Errorf("%w: it returns another version than the last one written", ErrNoConditions)
	}
	return nil
}

// refused checks the error of a write that must be refused with ErrChanged.
func refused(err error, otherwise string) error {
	switch {
	case err == nil:
		return fmt.Errorf("%w: it %s", ErrNoConditions, otherwise)
	case !errors.Is(err, ErrChanged):
		return fmt.Errorf("probe conditional writes: %w", err)
	}
	return nil
}
