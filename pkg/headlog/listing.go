package headlog

import (
	"cmp"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"
)

// maxPieces bounds the pieces of a Listing. Pieces beyond it are counted as ignored.
const maxPieces = 1 << 20

// Piece is an object with a piece.
type Piece struct {
	Name
	// Object is the full name within the bucket.
	Object string
	// Size in bytes, or -1 when the listing has none.
	Size int64
}

// Generation is the log of one Prometheus life in the bucket.
type Generation struct {
	Source string
	ID     ulid.ULID
	// HasInfo says that the object InfoName exists. Without it the labels are unknown.
	HasInfo bool
	// Recovered says that the object RecoveredName exists: the generation is not
	// continued.
	Recovered bool
	// Pieces are in the order in which their records apply.
	Pieces []Piece
	// Modified is the time of the newest object on the clock of the bucket; zero when
	// the listing has no times.
	Modified time.Time
}

// Dir returns the directory of the generation, without a slash at its end.
func (g *Generation) Dir() string { return GenerationDir(g.Source, g.ID) }

// Listing collects generations from the objects of a bucket. The zero value is empty.
// One goroutine uses it.
type Listing struct {
	// Ignored counts the objects that are not of this format.
	Ignored int

	generations map[string]*Generation
	pieces      int
}

// Add adds an object by its full name in the bucket.
func (l *Listing) Add(object string, size int64, modified time.Time) {
	rest, ok := strings.CutPrefix(object, Dir+"/")
	parts := strings.Split(rest, "/")
	if !ok || len(parts) != 3 || !validSource(parts[0]) {
		l.Ignored++
		return
	}
	id, err := ulid.ParseStrict(parts[1])
	if err != nil || id.String() != parts[1] {
		l.Ignored++
		return
	}
	name, isPiece := ParseName(parts[2])
	if !isPiece && parts[2] != InfoName && parts[2] != RecoveredName || l.pieces >= maxPieces {
		l.Ignored++
		return
	}
	if l.generations == nil {
		l.generations = map[string]*Generation{}
	}
	key := parts[0] + "/" + parts[1]
	g := l.generations[key]
	if g == nil {
		g = &Generation{Source: parts[0], ID: id}
		l.generations[key] = g
	}
	if parts[2] == RecoveredName {
		g.Recovered = true
		return
	}
	if modified.After(g.Modified) {
		g.Modified = modified
	}
	l.pieces++
	if !isPiece {
		g.HasInfo = true
		return
	}
	g.Pieces = append(g.Pieces, Piece{Name: name, Object: object, Size: size})
}

// Generations returns the generations, ordered by source and then from old to new.
func (l *Listing) Generations() []*Generation {
	out := make([]*Generation, 0, len(l.generations))
	for _, g := range l.generations {
		slices.SortFunc(g.Pieces, func(a, b Piece) int {
			return cmp.Or(cmp.Compare(a.Seq, b.Seq), strings.Compare(a.Object, b.Object))
		})
		out = append(out, g)
	}
	slices.SortFunc(out, func(a, b *Generation) int {
		return cmp.Or(strings.Compare(a.Source, b.Source), a.ID.Compare(b.ID))
	})
	return out
}

// validSource says whether s can be a result of Source.
func validSource(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == 16 && hex.EncodeToString(b) == s
}
