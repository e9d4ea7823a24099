package replicate

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/klauspost/compress/s2"
)

// A hintLog keeps on disk what one peer has missed, oldest first, bounded by
// bytes: beyond the bound the oldest segment goes. The format is drawn in
// docs/format/hint-log.md. Its methods may be called concurrently.
type hintLog struct {
	dir      string
	peer     string
	maxBytes int64

	mu      sync.Mutex
	sizes   map[int64]int64 // bytes of each segment
	total   int64
	active  *os.File // nil when the next record begins a segment
	current int64    // number of the active or last segment
	scratch []byte
}

const (
	hintPrefix      = "hints-"
	hintSuffix      = ".hint"
	hintSegmentSize = 8 << 20
	hintMaxRecord   = 64 << 20
	hintMaxSeries   = 4 << 20 // bytes of the series in one record; one that is larger is alone
	hintHeader      = 8
)

// hint is one record: the series that a peer missed, of one tenant.
type hint struct {
	tenant  string
	replica int
	series  []byte
}

// openHintLog opens the log of a peer in dir; what is there from before is kept.
func openHintLog(dir, peer string, maxBytes int64) (*hintLog, error) {
	l := &hintLog{dir: dir, peer: peer, maxBytes: maxBytes, sizes: map[int64]int64{}}
	if err := os.MkdirAll(l.dir, 0o750); err != nil {
		return nil, fmt.Errorf("make the folder of the hint log of peer %s: %w", peer, err)
	}
	entries, err := os.ReadDir(l.dir)
	if err != nil {
		return nil, fmt.Errorf("list the hint log of peer %s: %w", peer, err)
	}
	for _, e := range entries {
		of, n, ok := parseHintName(e.Name())
		if !ok || of != peer || !e.Type().IsRegular() {
			continue
		}
		info, err := e.Info()
		if err != nil {
			return nil, fmt.Errorf("look at the hint log of peer %s: %w", peer, err)
		}
		l.sizes[n] = info.Size()
		l.total += info.Size()
		l.current = max(l.current, n)
	}
	return l, nil
}

// hintName is the name of a segment's file. The logs of all peers are files of one
// folder, that of the tenants: a folder there would be taken for a tenant by Thanos.
func hintName(peer string, n int64) string {
	return fmt.Sprintf("%s%s-%016d%s", hintPrefix, url.PathEscape(peer), n, hintSuffix)
}

// parseHintName is the inverse of hintName.
func parseHintName(name string) (peer string, n int64, ok bool) {
	name, ok1 := strings.CutPrefix(name, hintPrefix)
	name, ok2 := strings.CutSuffix(name, hintSuffix)
	at := strings.LastIndexByte(name, '-')
	if !ok1 || !ok2 || at < 0 {
		return "", 0, false
	}
	n, err := strconv.ParseInt(name[at+1:], 10, 64)
	peer, err2 := url.PathUnescape(name[:at])
	return peer, n, err == nil && err2 == nil
}

// AdoptHints moves the hint logs from old, where they had a folder for each peer,
// to dir, and removes old. There is nothing to do when old does not exist. It must
// not run while a Writer uses dir.
func AdoptHints(old, dir string) error {
	peers, err := os.ReadDir(old)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list the hint logs in %s: %w", old, err)
	}
	for _, p := range peers {
		peer, err := url.PathUnescape(p.Name())
		if err != nil || !p.IsDir() {
			continue
		}
		if err := adoptPeer(filepath.Join(old, p.Name()), dir, peer); err != nil {
			return fmt.Errorf("move the hint log of peer %s to %s: %w", peer, dir, err)
		}
	}
	if err := os.Remove(old); err != nil {
		return fmt.Errorf("remove the old folder of the hint logs, whose hints have been moved: %w", err)
	}
	return nil
}

// adoptPeer moves the segments of one peer behind those that dir has already.
func adoptPeer(old, dir, peer string) error {
	l, err := openHintLog(dir, peer, 0)
	if err != nil {
		return err
	}
	segments, err := os.ReadDir(old) // in the order of their names, which is their age
	if err != nil {
		return err
	}
	for _, s := range segments {
		if !strings.HasSuffix(s.Name(), hintSuffix) {
			continue
		}
		l.current++
		if err := os.Rename(filepath.Join(old, s.Name()), l.path(l.current)); err != nil {
			return err
		}
	}
	return os.Remove(old)
}

// removeHints deletes the logs of all peers but those to keep, and returns whose
// they were.
func removeHints(dir string, keep func(peer string) bool) (removed []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var errs []error
	for _, e := range entries {
		peer, _, ok := parseHintName(e.Name())
		if !ok || !e.Type().IsRegular() || keep(peer) {
			continue // what is not ours stays
		}
		errs = append(errs, os.Remove(filepath.Join(dir, e.Name())))
		if !slices.Contains(removed, peer) {
			removed = append(removed, peer)
		}
	}
	return removed, errors.Join(errs...)
}

func (l *hintLog) path(n int64) string { return filepath.Join(l.dir, hintName(l.peer, n)) }

// append adds a part. dropped is how many bytes of older hints had to go. The
// numbers of copies are kept, as nobody knows what the peer will be when it is
// back.
func (l *hintLog) append(p Part) (dropped int64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	for _, copy := range p.byReplica() {
		for _, one := range copy.cut(hintMaxSeries) {
			n, err := l.add(one)
			dropped += n
			errs = append(errs, err)
		}
	}
	return dropped, errors.Join(errs...)
}

// add writes the record of a part that is one copy. The caller holds mu.
func (l *hintLog) add(p Part) (dropped int64, err error) {
	plain := binary.AppendUvarint(nil, uint64(len(p.Tenant)))
	plain = append(plain, p.Tenant...)
	plain = binary.AppendUvarint(plain, uint64(p.Replica))
	for _, r := range p.Regions {
		plain = append(plain, r...)
	}
	if len(plain) > hintMaxRecord {
		return 0, fmt.Errorf("a hint of %d bytes is too large", len(plain))
	}
	l.scratch = slices.Grow(l.scratch[:0], hintHeader+s2.MaxEncodedLen(len(plain)))[:hintHeader]
	body := s2.Encode(l.scratch[hintHeader:cap(l.scratch)], plain)
	record := l.scratch[:hintHeader+len(body)]
	binary.LittleEndian.PutUint32(record, uint32(len(body)))
	binary.LittleEndian.PutUint32(record[4:], crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)))
	if err := l.write(record); err != nil {
		return 0, err
	}
	return l.trim()
}

func (l *hintLog) write(record []byte) error {
	if l.active == nil {
		l.current++
		f, err := os.OpenFile(l.path(l.current), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o640)
		if err != nil {
			return fmt.Errorf("begin a segment of the hint log: %w", err)
		}
		l.active, l.sizes[l.current] = f, 0
	}
	n, err := l.active.Write(record)
	l.sizes[l.current] += int64(n)
	l.total += int64(n)
	if err != nil {
		return errors.Join(fmt.Errorf("write to the hint log: %w", err), l.seal())
	}
	if l.sizes[l.current] >= hintSegmentSize {
		return l.seal()
	}
	return nil
}

// seal ends the active segment. The caller holds mu.
func (l *hintLog) seal() error {
	if l.active == nil {
		return nil
	}
	err := l.active.Close()
	l.active = nil
	return err
}

// trim drops the oldest segments above the bound. The caller holds mu.
func (l *hintLog) trim() (dropped int64, err error) {
	for l.total > l.maxBytes && len(l.sizes) > 0 {
		n := l.oldest()
		if n == l.current {
			err = errors.Join(err, l.seal())
		}
		dropped += l.sizes[n]
		err = errors.Join(err, l.drop(n))
	}
	return dropped, err
}

func (l *hintLog) oldest() int64 {
	first := true
	var n int64
	for i := range l.sizes {
		if first || i < n {
			n, first = i, false
		}
	}
	return n
}

func (l *hintLog) drop(n int64) error {
	l.total -= l.sizes[n]
	delete(l.sizes, n)
	if err := os.Remove(l.path(n)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// remove deletes the segments of this log. Its folder is that of the tenants, and
// of the logs of other peers.
func (l *hintLog) remove() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.seal()
	for n := range l.sizes {
		err = errors.Join(err, l.drop(n))
	}
	return err
}

// last is the number of the newest segment.
func (l *hintLog) last() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.current
}

// take opens the oldest segment for reading and makes sure that nothing more is
// written to it; a nil reader means that there are no hints up to the segment
// with the given number.
func (l *hintLog) take(upTo int64) (*hintReader, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.sizes) == 0 {
		return nil, nil
	}
	n := l.oldest()
	if n > upTo {
		return nil, nil
	}
	if n == l.current {
		if err := l.seal(); err != nil {
			return nil, err
		}
	}
	f, err := os.Open(l.path(n))
	if errors.Is(err, os.ErrNotExist) {
		err = errors.Join(err, l.drop(n)) // somebody has deleted it
	}
	if err != nil {
		return nil, fmt.Errorf("open a segment of the hint log: %w", err)
	}
	return &hintReader{f: f, r: bufio.NewReaderSize(f, 256<<10), number: n}, nil
}

// done deletes a segment that has been delivered.
func (l *hintLog) done(n int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.sizes[n]; !ok {
		return nil // trimmed meanwhile
	}
	return l.drop(n)
}

func (l *hintLog) bytes() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.total
}

func (l *hintLog) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seal()
}

// hintReader reads the records of a segment.
type hintReader struct {
	f      *os.File
	r      *bufio.Reader
	number int64
}

// next returns the next record; io.EOF is the end. A record that is torn or
// damaged ends the segment too, as what follows it cannot be found: the error
// says so.
func (r *hintReader) next() (hint, error) {
	var head [hintHeader]byte
	if _, err := io.ReadFull(r.r, head[:]); err != nil {
		if errors.Is(err, io.EOF) {
			return hint{}, io.EOF
		}
		return hint{}, errHintTorn
	}
	n := binary.LittleEndian.Uint32(head[:])
	if n > hintMaxRecord+hintMaxRecord/6+64 {
		return hint{}, errHintTorn
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r.r, body); err != nil {
		return hint{}, errHintTorn
	}
	if crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)) != binary.LittleEndian.Uint32(head[4:]) {
		return hint{}, errHintTorn
	}
	return decodeHint(body)
}

var errHintTorn = errors.New("a record of the hint log is torn or damaged")

func decodeHint(body []byte) (hint, error) {
	if n, err := s2.DecodedLen(body); err != nil || n > hintMaxRecord {
		return hint{}, errHintTorn
	}
	plain, err := s2.Decode(nil, body)
	if err != nil {
		return hint{}, errHintTorn
	}
	length, w := binary.Uvarint(plain)
	if w <= 0 || length > uint64(len(plain)-w) {
		return hint{}, errHintTorn
	}
	h := hint{tenant: string(plain[w : w+int(length)])}
	plain = plain[w+int(length):]
	replica, w := binary.Uvarint(plain)
	if w <= 0 || replica > 1<<16 {
		return hint{}, errHintTorn
	}
	h.replica, h.series = int(replica), plain[w:]
	return h, nil
}

func (r *hintReader) close() error { return r.f.Close() }
