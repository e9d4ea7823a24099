package claim

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/bucket"
)

// dir holds the claims of a bucket. The version of the format is part of the name.
// Programs that list blocks ignore it, because the name is no ULID.
const dir = "hindsight/claims-v1"

const version = 1

// Bounds of what is read from a bucket, in which others may write too.
const (
	maxSize   = 64 << 10 // bytes of a claim
	maxClaims = 50_000   // of a bucket
	maxOthers = 1000     // with equal labels
)

// Claim is what a source says of itself.
type Claim struct {
	Version int `json:"version"`
	// Instance identifies the data directory, which outlives processes and hosts.
	Instance string `json:"instance"`
	// Epoch identifies the process.
	Epoch string `json:"epoch"`
	// Beat counts the heartbeats of the process.
	Beat uint64 `json:"beat"`
	// Labels are the external labels.
	Labels map[string]string `json:"labels"`
	// Since is when the source first had these labels.
	Since time.Time `json:"since"`
	// Heartbeat is the time of this heartbeat, on the clock of the source.
	Heartbeat time.Time `json:"heartbeat"`
	// IntervalSeconds is the time between two heartbeats.
	IntervalSeconds int64 `json:"interval_seconds"`
	// Stopped says that the source ended, or has other labels now.
	Stopped bool `json:"stopped,omitempty"`
	// Previous are earlier labels of the source, the newest first.
	Previous []Previous `json:"previous,omitempty"`
	// Host and Directory tell people where the source runs.
	Host      string `json:"host,omitempty"`
	Directory string `json:"directory,omitempty"`
}

// Previous are labels that a source had.
type Previous struct {
	Labels map[string]string `json:"labels"`
	// Until is when they were replaced.
	Until time.Time `json:"until"`
}

// LabelSet returns the external labels.
func (c *Claim) LabelSet() labels.Labels { return labels.FromMap(c.Labels) }

// where tells people which source it is.
func (c *Claim) where() string {
	return fmt.Sprintf("host %q, data directory %q, instance %s", c.Host, c.Directory, c.Instance)
}

// hash names the directory of a label set.
func hash(ls labels.Labels) string {
	h := sha256.New()
	ls.Range(func(l labels.Label) { fmt.Fprintf(h, "%q=%q,", l.Name, l.Value) })
	return hex.EncodeToString(h.Sum(nil)[:16])
}

func objectOf(ls labels.Labels, instance string) string {
	return dir + "/" + hash(ls) + "/" + instance + ".json"
}

// errMalformed marks the error of an object that is no claim, or one of another source
// or version.
var errMalformed = errors.New("object is not a claim of this version")

// parse decodes the claim in the object name. Its errors are errMalformed.
func parse(name string, data []byte) (*Claim, error) {
	var c Claim
	if err := json.Unmarshal(data, &c); err != nil {
		return nil, fmt.Errorf("decode claim %s: %w: %w", name, errMalformed, err)
	}
	_, idErr := ulid.ParseStrict(c.Instance)
	switch {
	case c.Version != version:
		return nil, fmt.Errorf("decode claim %s: %w: its version is %d; this program knows %d", name, errMalformed, c.Version, version)
	case idErr != nil || objectOf(c.LabelSet(), c.Instance) != name:
		return nil, fmt.Errorf("decode claim %s: %w: it is of another source", name, errMalformed)
	}
	return &c, nil
}

func read(ctx context.Context, r bucket.Reader, name string) (*Claim, error) {
	data, err := bucket.ReadAll(ctx, r, name, maxSize)
	if err != nil {
		return nil, err
	}
	return parse(name, data)
}

func write(ctx context.Context, b bucket.Bucket, c *Claim) error {
	data, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return fmt.Errorf("encode claim: %w", err)
	}
	return b.Upload(ctx, objectOf(c.LabelSet(), c.Instance), bytes.NewReader(data), int64(len(data)))
}

// Entry is a claim in a bucket.
type Entry struct {
	Claim
	// Modified is the time of the last heartbeat on the clock of the bucket; zero when
	// the listing has no times.
	Modified time.Time
}

// List returns all claims of a bucket. bad are errors of single claims, which are left
// out.
func List(ctx context.Context, r bucket.Reader) (all []Entry, bad []error, err error) {
	var objects []bucket.Object
	err = r.List(ctx, dir, func(o bucket.Object) error {
		if len(objects) == maxClaims {
			return fmt.Errorf("the bucket has more than %d claims", maxClaims)
		}
		if strings.HasSuffix(o.Name, ".json") {
			objects = append(objects, o)
		}
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("list claims: %w", err)
	}
	for _, o := range objects {
		c, err := read(ctx, r, o.Name)
		switch {
		case ctx.Err() != nil:
			return nil, nil, ctx.Err()
		case errors.Is(err, bucket.ErrNotFound):
		case err != nil:
			bad = append(bad, err)
		default:
			all = append(all, Entry{Claim: *c, Modified: o.LastModified})
		}
	}
	return all, bad, nil
}
