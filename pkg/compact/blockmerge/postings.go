package blockmerge

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/hindsight-io/hindsight/pkg/vfs"
)

// postings collects which series have a label. It is an external merge sort: when its
// memory is used up it writes a sorted run to a file, and in the end it merges the runs.
// The references of a later run are larger than those of an earlier one.
type postings struct {
	fs     vfs.FS
	path   string
	most   int                 // references in memory
	byName map[uint32][]uint64 // value and reference in one number
	all    []uint32
	held   int
	runs   []vfs.File
	// references counts those of all labels.
	references uint64
}

// newPostings keeps up to so many bytes in memory.
func newPostings(fsys vfs.FS, path string, memory int) *postings {
	return &postings{fs: fsys, path: path, most: max(memory/8, 1), byName: map[uint32][]uint64{}}
}

// allSeries stands for the label of the list of all series. Numbers of symbols do not
// reach it, and it is written first.
const allSeries = math.MaxUint32

// add adds a series. References ascend.
func (p *postings) add(labels []uint32, ref uint32) error {
	for i := 0; i < len(labels); i += 2 {
		p.byName[labels[i]] = append(p.byName[labels[i]], uint64(labels[i+1])<<32|uint64(ref))
	}
	p.all = append(p.all, ref)
	p.references += uint64(len(labels)/2 + 1)
	if p.held += len(labels)/2 + 1; p.held >= p.most {
		return p.spool()
	}
	return nil
}

// names returns the names in order and sorts what memory holds of them.
func (p *postings) names() []uint32 {
	out := make([]uint32, 0, len(p.byName))
	for n, list := range p.byName {
		if len(list) > 0 {
			slices.Sort(list)
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out
}

// spool writes a run: groups of name, value, number of references, and these.
func (p *postings) spool() error {
	f, err := p.fs.Create(fmt.Sprintf("%s.%d", p.path, len(p.runs)))
	if err != nil {
		return err
	}
	p.runs = append(p.runs, f)
	w := bufio.NewWriterSize(f, writeBuffer)
	var b []byte
	err = p.groups(func(name, value uint32, refs []uint32) error {
		b = binary.LittleEndian.AppendUint32(b[:0], name)
		b = binary.LittleEndian.AppendUint32(b, value)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(refs)))
		for _, r := range refs {
			b = binary.LittleEndian.AppendUint32(b, r)
		}
		_, err := w.Write(b)
		return err
	})
	for n, list := range p.byName {
		p.byName[n] = list[:0]
	}
	p.all, p.held = p.all[:0], 0
	return errors.Join(err, w.Flush())
}

// groups calls f for each label in memory, in order; the list of all series is first.
func (p *postings) groups(f func(name, value uint32, refs []uint32) error) error {
	if err := f(allSeries, 0, p.all); err != nil {
		return err
	}
	var refs []uint32
	for _, n := range p.names() {
		list := p.byName[n]
		for len(list) > 0 {
			value := uint32(list[0] >> 32)
			refs = refs[:0]
			for len(list) > 0 && uint32(list[0]>>32) == value {
				refs = append(refs, uint32(list[0]))
				list = list[1:]
			}
			if err := f(n, value, refs); err != nil {
				return err
			}
		}
	}
	return nil
}

// refs is one list of references, in pieces.
type refs struct {
	count  uint64
	memory []uint32
	runs   []*run
	buf    []uint32
}

// next returns the next references, none at the end.
func (r *refs) next() ([]uint32, error) {
	if len(r.memory) > 0 {
		out := r.memory[:min(len(r.memory), 16<<10)]
		r.memory = r.memory[len(out):]
		return out, nil
	}
	for len(r.runs) > 0 {
		g := r.runs[0]
		if g.left == 0 {
			r.runs = r.runs[1:]
			continue
		}
		var err error
		r.buf, err = g.read(r.buf[:0], min(g.left, 16<<10))
		return r.buf, err
	}
	return nil, nil
}

// run reads a run. name and value are those of the current group, of which left
// references are unread.
type run struct {
	number      int
	r           *bufio.Reader
	name, value uint32
	left        uint32
	ended       bool
	buf         []byte
}

// next moves to the next group.
func (g *run) next() error {
	var b [12]byte
	_, err := io.ReadFull(g.r, b[:])
	if errors.Is(err, io.EOF) {
		g.ended = true
		return nil
	}
	g.name, g.value, g.left = binary.LittleEndian.Uint32(b[:]), binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint32(b[8:])
	return err
}

// read appends references of the current group.
func (g *run) read(dst []uint32, n uint32) ([]uint32, error) {
	g.buf = slices.Grow(g.buf[:0], int(4*n))[:4*n]
	if _, err := io.ReadFull(g.r, g.buf); err != nil {
		return nil, err
	}
	for i := range n {
		dst = append(dst, binary.LittleEndian.Uint32(g.buf[4*i:]))
	}
	g.left -= n
	return dst, nil
}

// compareRuns is the order of labels, the list of all series first.
func compareRuns(a, b *run) int {
	return cmp.Or(cmp.Compare(a.name+1, b.name+1), cmp.Compare(a.value, b.value), cmp.Compare(a.number, b.number))
}

// each calls f for the list of each label in order, that of all series first. f reads
// the whole list.
func (p *postings) each(f func(name, value uint32, all bool, refs *refs) error) error {
	if len(p.runs) == 0 {
		return p.groups(func(name, value uint32, list []uint32) error {
			return f(name, value, name == allSeries, &refs{count: uint64(len(list)), memory: list})
		})
	}
	if err := p.spool(); err != nil {
		return err
	}
	p.byName, p.all = nil, nil
	var live []*run
	// The buffers of all runs take no more than the memory that the references took.
	size := max(8*p.most/len(p.runs), 4<<10)
	for i, file := range p.runs {
		if _, err := file.Seek(0, io.SeekStart); err != nil {
			return err
		}
		g := &run{number: i, r: bufio.NewReaderSize(file, min(size, writeBuffer))}
		if err := g.next(); err != nil {
			return err
		}
		live = append(live, g)
	}
	for len(live) > 0 {
		least := slices.MinFunc(live, compareRuns)
		list := refs{}
		for _, g := range live { // in the order of their numbers
			if g.name == least.name && g.value == least.value {
				list.runs = append(list.runs, g)
				list.count += uint64(g.left)
			}
		}
		taken := slices.Clone(list.runs)
		if err := f(least.name, least.value, least.name == allSeries, &list); err != nil {
			return err
		}
		for _, g := range taken {
			if err := g.next(); err != nil {
				return err
			}
		}
		live = slices.DeleteFunc(live, func(g *run) bool { return g.ended })
	}
	return nil
}

// Close removes the files of the runs.
func (p *postings) Close() error {
	var err error
	for _, f := range p.runs {
		err = errors.Join(err, f.Close(), p.fs.Remove(f.Name()))
	}
	return err
}
