package headlog

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
)

// Dir is the directory of the bucket that holds all head logs.
const Dir = "hindsight/heads-v1"

// Kind is the kind of the records in a piece.
type Kind string

// The kinds of pieces.
const (
	// KindSeries holds the series and tombstone records of a range of the write-ahead
	// log.
	KindSeries Kind = "series"
	// KindCheckpoint holds the series and tombstone records of a checkpoint. Its segment
	// is the number of the checkpoint, its range counts the records of the checkpoint.
	KindCheckpoint Kind = "checkpoint"
	// KindCarried holds the samples of a checkpoint, numbered as those of KindCheckpoint.
	KindCarried Kind = "carried"
	// KindWAL holds the samples of a range of the write-ahead log.
	KindWAL Kind = "wal"
	// KindWBL holds the samples of a range of the write-behind log, which are
	// out-of-order samples.
	KindWBL Kind = "wbl"
)

// kinds are all kinds; the number of a kind in a piece is its place here.
func kinds() []Kind { return []Kind{KindSeries, KindCheckpoint, KindCarried, KindWAL, KindWBL} }

// number returns the number of the kind in the header of a piece, or -1.
func (k Kind) number() int {
	for i, other := range kinds() {
		if k == other {
			return i
		}
	}
	return -1
}

// HasSamples says whether pieces of the kind hold samples; the others hold series and
// tombstones.
func (k Kind) HasSamples() bool { return k == KindCarried || k == KindWAL || k == KindWBL }

// Name is the name of a piece within its generation. It says all that a reader needs to
// choose pieces from a listing.
type Name struct {
	// Seq is the place of the piece in its generation: records apply in this order.
	Seq  uint64
	Kind Kind
	// Segment is the number of the log segment, or of the checkpoint.
	Segment int
	// From and End are the range of the segment that was read for the piece, in bytes;
	// End is exclusive. All its records of the kind are in the piece.
	From, End int64
	// MinTime and MaxTime are the lowest and highest time of the samples in the
	// piece, in milliseconds, inclusive; zero without samples.
	MinTime, MaxTime int64
}

// String returns the last element of the name of the object.
func (n Name) String() string {
	s := fmt.Sprintf("%010d.%s.%08d.%012d.%012d", n.Seq, n.Kind, n.Segment, n.From, n.End)
	if n.Kind.HasSamples() {
		s += fmt.Sprintf(".%d.%d", n.MinTime, n.MaxTime)
	}
	return s
}

// maxSeq, maxSegment and maxOffset are the highest numbers of a name, which keep the
// order of names that of the numbers.
const (
	maxSeq     = 9_999_999_999
	maxSegment = 99_999_999
	maxOffset  = 999_999_999_999
)

// valid says whether the name can be that of a piece.
func (n Name) valid() bool {
	return n.Kind.number() >= 0 && n.Seq <= maxSeq &&
		n.Segment >= 0 && n.Segment <= maxSegment &&
		n.From >= 0 && n.From < n.End && n.End <= maxOffset &&
		n.MinTime <= n.MaxTime && (n.Kind.HasSamples() || n.MinTime == 0 && n.MaxTime == 0)
}

// ParseName returns the name that s is the String of.
func ParseName(s string) (Name, bool) {
	if len(s) > 128 {
		return Name{}, false
	}
	f := strings.Split(s, ".")
	if len(f) != 5 && len(f) != 7 {
		return Name{}, false
	}
	n := Name{Kind: Kind(f[1])}
	var segment int64
	for _, p := range []struct {
		text string
		to   *int64
	}{{f[2], &segment}, {f[3], &n.From}, {f[4], &n.End}} {
		v, err := strconv.ParseInt(p.text, 10, 64)
		if err != nil {
			return Name{}, false
		}
		*p.to = v
	}
	n.Segment = int(segment)
	var err error
	if n.Seq, err = strconv.ParseUint(f[0], 10, 64); err != nil {
		return Name{}, false
	}
	if len(f) == 7 {
		if n.MinTime, err = strconv.ParseInt(f[5], 10, 64); err != nil {
			return Name{}, false
		}
		if n.MaxTime, err = strconv.ParseInt(f[6], 10, 64); err != nil {
			return Name{}, false
		}
	}
	return n, n.valid() && n.String() == s
}

// Source returns the directory name of a source: a hash of all its external labels.
func Source(external labels.Labels) string {
	h := sha256.New()
	external.Range(func(l labels.Label) {
		fmt.Fprintf(h, "%d:%s%d:%s", len(l.Name), l.Name, len(l.Value), l.Value)
	})
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// GenerationDir returns the directory of a generation, without a slash at its end.
func GenerationDir(source string, id ulid.ULID) string {
	return Dir + "/" + source + "/" + id.String()
}
