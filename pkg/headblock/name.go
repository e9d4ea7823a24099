package headblock

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/block"
)

// idMark ends the names of the blocks of this package. A block whose compaction had such
// a block as a source does not have all samples of its time range: the source ends
// when its Prometheus did.
const idMark = "HB"

// Recovered reports whether a block has the name of one that Write made.
func Recovered(id ulid.ULID) bool { return bytes.HasSuffix(id[:], []byte(idMark)) }

// contentID names a block by its end, its labels and the content of its files.
func contentID(dir string, external labels.Labels, maxt int64) (id ulid.ULID, err error) {
	h := sha256.New()
	fmt.Fprintf(h, "%s\n", external)
	files := []string{block.IndexFile}
	entries, err := os.ReadDir(filepath.Join(dir, block.ChunksDir))
	if err != nil {
		return id, err
	}
	for _, e := range entries {
		files = append(files, filepath.Join(block.ChunksDir, e.Name()))
	}
	slices.Sort(files)
	for _, name := range files {
		if err := hashFile(h, filepath.Join(dir, name)); err != nil {
			return id, err
		}
	}
	if err := id.SetTime(uint64(min(max(maxt, 0), int64(ulid.MaxTime())))); err != nil {
		return id, err
	}
	entropy := append(h.Sum(nil)[:10-len(idMark)], idMark...)
	return id, id.SetEntropy(entropy)
}

// hashFile adds the size and the content of a file.
func hashFile(w io.Writer, path string) (err error) {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "%s %d\n", filepath.Base(path), info.Size())
	_, err = io.Copy(w, f)
	return err
}
