package replicate

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/klauspost/compress/s2"

	"github.com/hindsight-io/hindsight/pkg/protoscan"
	"github.com/hindsight-io/hindsight/pkg/vfs"
)

// hintLog keeps on disk the writes that one peer has not stored, oldest first, in
// segments. Its size is bounded: above maxBytes the oldest segment is deleted. The
// format is drawn in docs/format/hint-log.md. Its methods may be called
// concurrently.
//
// Crash guarantee: a hint for which append returned nil survives a crash of the
// process, but not one of the machine, as nothing is synced. A failed append
// leaves at most a torn record at the end of a segment.
type hintLog struct {
	fs       vfs.FS
	dir      string
	peer     string
	maxBytes int64

	mu      sync.Mutex
	sizes   map[int64]int64 // bytes of each segment
	total   int64
	active  vfs.File // nil when the next record begins a segment
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

// hint is one record: series of one tenant that a peer has not stored.
type hint struct {
	tenant  string
	replica int
	// requestID is the id of the client's request; empty when there is none.
	requestID string
	series    []byte
}

// tagHintRequest is a field of remote write that no version has: earlier versions skip it
// as they read the series behind it.
const tagHintRequest = 100<<3 | protoscan.Bytes

// openHintLog opens the log of a peer in dir, with the segments that are there.
func openHintLog(fsys vfs.FS, dir, peer string, maxBytes int64) (*hintLog, error) {
	l := &hintLog{fs: fsys, dir: dir, peer: peer, maxBytes: maxBytes, sizes: map[int64]int64{}}
	if err := fsys.MkdirAll(l.dir, 0o750); err != nil {
		return nil, fmt.Errorf("create the directory of the hint log of peer %s: %w", peer, err)
	}
	entries, err := fsys.ReadDir(l.dir)
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
			return nil, fmt.Errorf("read the size of the hint log of peer %s: %w", peer, err)
		}
		l.sizes[n] = info.Size()
		l.total += info.Size()
		l.current = max(l.current, n)
	}
	return l, nil
}

// hintName is the name of a segment's file. The segments of all peers are files of
// one directory, that of the tenants: Thanos would open a directory there as a
// tenant.
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

// AdoptHints moves the hint logs from old, where earlier versions had a directory
// for each peer, to dir, and removes old. It does nothing when old does not exist,
// and continues where an earlier call failed. It must not run while a Writer uses
// dir.
func AdoptHints(fsys vfs.FS, old, dir string) error {
	peers, err := fsys.ReadDir(old)
	if errors.Is(err, fs.ErrNotExist) {
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
		if err := adoptPeer(fsys, filepath.Join(old, p.Name()), dir, peer); err != nil {
			return fmt.Errorf("move the hint log of peer %s to %s: %w", peer, dir, err)
		}
	}
	if err := fsys.Remove(old); err != nil {
		return fmt.Errorf("remove %s, whose hint logs have been moved to %s: %w", old, dir, err)
	}
	return nil
}

// adoptPeer moves the segments of one peer behind those that dir has already.
func adoptPeer(fsys vfs.FS, old, dir, peer string) error {
	l, err := openHintLog(fsys, dir, peer, 0)
	if err != nil {
		return err
	}
	segments, err := fsys.ReadDir(old) // in the order of their names, which is their age
	if err != nil {
		return err
	}
	for _, s := range segments {
		if !strings.HasSuffix(s.Name(), hintSuffix) {
			continue
		}
		l.current++
		if err := fsys.Rename(filepath.Join(old, s.Name()), l.path(l.current)); err != nil {
			return err
		}
	}
	// The new names are durable before the old directory goes.
	if err := fsys.SyncDir(dir); err != nil {
		return err
	}
	return fsys.Remove(old)
}

// removeHints deletes the logs of all peers but those to keep, and returns the
// peers whose logs it deleted.
func removeHints(fsys vfs.FS, dir string, keep func(peer string) bool) (removed []string, err error) {
	entries, err := fsys.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list the hint logs in %s: %w", dir, err)
	}
	var errs []error
	for _, e := range entries {
		peer, _, ok := parseHintName(e.Name())
		if !ok || !e.Type().IsRegular() || keep(peer) {
			continue
		}
		errs = append(errs, fsys.Remove(filepath.Join(dir, e.Name())))
		if !slices.Contains(removed, peer) {
			removed = append(removed, peer)
		}
	}
	return removed, errors.Join(errs...)
}

func (l *hintLog) path(n int64) string { return filepath.Join(l.dir, hintName(l.peer, n)) }

// append adds a part. dropped is how many bytes of older hints were deleted to
// keep the bound. The numbers of copies are kept, as the peer may run another
// program when it is back.
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
	if p.RequestID != "" {
		plain = binary.AppendUvarint(plain, tagHintRequest)
		plain = binary.AppendUvarint(plain, uint64(len(p.RequestID)))
		plain = append(plain, p.RequestID...)
	}
	for _, r := range p.Regions {
		plain = append(plain, r...)
	}
	if len(plain) > hintMaxRecord {
		return 0, fmt.Errorf("append to the hint log: a hint of %d bytes exceeds the bound of %d", len(plain), hintMaxRecord)
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

// write appends a record to the active segment, which it begins when there is
// none, and seals after a failure: what follows a torn record cannot be read.
func (l *hintLog) write(record []byte) error {
	if l.active == nil {
		l.current++
		f, err := l.fs.OpenFile(l.path(l.current), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o640)
		if err != nil {
			return fmt.Errorf("create a segment of the hint log: %w", err)
		}
		l.active, l.sizes[l.current] = f, 0
	}
	n, err := l.active.Write(record)
	l.sizes[l.current] += int64(n)
	l.total += int64(n)
	if err != nil {
		return errors.Join(fmt.Errorf("write to a segment of the hint log: %w", err), l.seal())
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
	if err != nil {
		return fmt.Errorf("close a segment of the hint log: %w", err)
	}
	return nil
}

// trim deletes the oldest segments above the bound. The caller holds mu.
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

// drop deletes a segment. One that cannot be deleted is forgotten until the log is
// opened again. The caller holds mu.
func (l *hintLog) drop(n int64) error {
	l.total -= l.sizes[n]
	delete(l.sizes, n)
	if err := l.fs.Remove(l.path(n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("delete a segment of the hint log: %w", err)
	}
	return nil
}

// remove deletes the segments of this log, but not its directory, which the
// tenants and the logs of other peers share.
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
	f, err := l.fs.Open(l.path(n))
	if errors.Is(err, fs.ErrNotExist) {
		err = errors.Join(err, l.drop(n)) // deleted by another program
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
	f      vfs.File
	r      *bufio.Reader
	number int64
}

// next returns the next record, or io.EOF at the end. A torn or damaged record
// ends the segment with errHintTorn, as the beginning of the record after it is
// not known.
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

// decodeHint reads the body of a record.
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
	tag, w := binary.Uvarint(h.series)
	if w <= 0 || tag != tagHintRequest {
		return h, nil
	}
	plain = h.series[w:]
	if length, w = binary.Uvarint(plain); w <= 0 || length > uint64(len(plain)-w) {
		return hint{}, errHintTorn
	}
	h.requestID, h.series = string(plain[w:w+int(length)]), plain[w+int(length):]
	return h, nil
}

func (r *hintReader) close() error { return r.f.Close() }
