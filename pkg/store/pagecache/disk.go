package pagecache

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/tsdb/fileutil"

	"github.com/hindsight-io/hindsight/pkg/vfs"
)

// The file of the disk tier (docs/format/page-cache.md): a header, one
// directory entry for each slot, and the slots, each of the size of a page.
const (
	diskFile       = "pages"
	diskMagic      = "HSPC"
	diskVersion    = 1
	diskHeaderSize = 64
	diskEntrySize  = 40
	// readEntries is how many directory entries are read at once at the start.
	readEntries = 8192
)

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// disk keeps pages in one file of fixed size. A page that cannot be read back as
// it was written counts as absent, so nothing is synced. It may be used
// concurrently.
type disk struct {
	f     vfs.File
	lock  fileutil.Releaser
	slots uint32

	mu     sync.Mutex
	index  map[key]uint32
	entry  []diskEntry // by slot
	used   []bool      // since the hand last passed
	hand   uint32
	closed bool
	broken atomic.Int64 // pages that did not match their checksum
	failed atomic.Int64 // writes that failed
}

// diskEntry is the content of a slot; a slot of length 0 is free.
type diskEntry struct {
	key    key
	length uint32
	crc    uint32
}

// openDisk opens or creates the file in dir. It empties a file of another size or
// format. It fails without access to dir, or when another process uses dir.
func openDisk(fsys vfs.FS, dir string, bytes int64) (_ *disk, err error) {
	slots := bytes / (pageSize + diskEntrySize)
	if slots < 1 || slots > 1<<31 {
		return nil, fmt.Errorf("page cache of %d bytes on disk is too small or too large", bytes)
	}
	if err := fsys.MkdirAll(dir, 0o777); err != nil {
		return nil, fmt.Errorf("create the directory of the page cache: %w", err)
	}
	lock, _, err := fileutil.Flock(filepath.Join(dir, "lock"))
	if err != nil {
		return nil, fmt.Errorf("lock the page cache in %s: %w", dir, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, lock.Release())
		}
	}()
	f, err := fsys.OpenFile(filepath.Join(dir, diskFile), os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return nil, fmt.Errorf("open the page cache: %w", err)
	}
	d := &disk{
		f: f, lock: lock, slots: uint32(slots),
		index: map[key]uint32{}, entry: make([]diskEntry, slots), used: make([]bool, slots),
	}
	if err := d.load(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return d, nil
}

func (d *disk) header() []byte {
	h := make([]byte, diskHeaderSize)
	copy(h, diskMagic)
	binary.LittleEndian.PutUint32(h[4:], diskVersion)
	binary.LittleEndian.PutUint32(h[8:], pageSize)
	binary.LittleEndian.PutUint32(h[12:], d.slots)
	return h
}

// load reads the directory of the file, or empties the file when its header or
// size is another.
func (d *disk) load() error {
	info, err := d.f.Stat()
	if err != nil {
		return fmt.Errorf("read the page cache: %w", err)
	}
	have := make([]byte, diskHeaderSize)
	if n, _ := d.f.ReadAt(have, 0); n < len(have) || string(have) != string(d.header()) || info.Size() != d.dataOffset(d.slots) {
		if err := errors.Join(d.f.Truncate(0), d.f.Truncate(d.dataOffset(d.slots))); err != nil {
			return fmt.Errorf("empty the page cache: %w", err)
		}
		if _, err := d.f.WriteAt(d.header(), 0); err != nil {
			return fmt.Errorf("write the header of the page cache: %w", err)
		}
		return nil
	}
	buf := make([]byte, readEntries*diskEntrySize)
	for slot := uint32(0); slot < d.slots; slot += readEntries {
		n := min(readEntries, d.slots-slot)
		b := buf[:n*diskEntrySize]
		if _, err := d.f.ReadAt(b, d.entryOffset(slot)); err != nil {
			return fmt.Errorf("read the directory of the page cache: %w", err)
		}
		for i := range n {
			if e, ok := decodeEntry(b[i*diskEntrySize:]); ok {
				d.entry[slot+i] = e
				d.index[e.key] = slot + i
			}
		}
	}
	// Of two slots with one key, the one in the index counts; the other is free.
	for slot, e := range d.entry {
		if e.length > 0 && d.index[e.key] != uint32(slot) {
			d.entry[slot] = diskEntry{}
		}
	}
	return nil
}

func (d *disk) entryOffset(slot uint32) int64 { return diskHeaderSize + int64(slot)*diskEntrySize }

func (d *disk) dataOffset(slot uint32) int64 {
	return d.entryOffset(d.slots) + int64(slot)*pageSize
}

func appendEntry(b []byte, e diskEntry) []byte {
	start := len(b)
	b = append(b, e.key.block[:]...)
	b = binary.LittleEndian.AppendUint32(b, e.key.file)
	b = binary.LittleEndian.AppendUint32(b, e.key.page)
	b = binary.LittleEndian.AppendUint32(b, e.length)
	b = binary.LittleEndian.AppendUint32(b, e.crc)
	b = binary.LittleEndian.AppendUint32(b, 0)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli()))
}

func decodeEntry(b []byte) (diskEntry, bool) {
	b = b[:diskEntrySize]
	if crc32.Checksum(b[:diskEntrySize-4], castagnoli()) != binary.LittleEndian.Uint32(b[diskEntrySize-4:]) {
		return diskEntry{}, false
	}
	var e diskEntry
	copy(e.key.block[:], b)
	e.key.file = binary.LittleEndian.Uint32(b[16:])
	e.key.page = binary.LittleEndian.Uint32(b[20:])
	e.length = binary.LittleEndian.Uint32(b[24:])
	e.crc = binary.LittleEndian.Uint32(b[28:])
	return e, e.length > 0 && e.length <= pageSize
}

// maxTogether is the number of neighbouring slots that one read takes at most.
const maxTogether = 64

// slotRead is a page to read from a slot.
type slotRead struct {
	slot uint32
	diskEntry
}

// get calls got with each of the pages of an object that are kept, and returns
// the others. Pages that were written together are read together.
func (d *disk) get(o Object, pages []uint32, got func(page uint32, b []byte)) (missing []uint32) {
	reads := make([]slotRead, 0, len(pages))
	d.mu.Lock()
	for _, page := range pages {
		k := key{o.Block, o.File, page}
		slot, ok := d.index[k]
		if !ok || d.closed {
			missing = append(missing, page)
			continue
		}
		d.used[slot] = true
		reads = append(reads, slotRead{slot: slot, diskEntry: d.entry[slot]})
	}
	d.mu.Unlock()
	for len(reads) > 0 {
		n := 1
		for n < len(reads) && n < maxTogether && reads[n].slot == reads[n-1].slot+1 {
			n++
		}
		missing = d.readSlots(reads[:n], got, missing)
		reads = reads[n:]
	}
	slices.Sort(missing)
	return missing
}

// readSlots reads neighbouring slots. Another page may have been written into a
// slot in the meantime; its checksum then differs.
func (d *disk) readSlots(reads []slotRead, got func(page uint32, b []byte), missing []uint32) []uint32 {
	last := reads[len(reads)-1]
	b := make([]byte, (len(reads)-1)*pageSize+int(last.length))
	_, err := d.f.ReadAt(b, d.dataOffset(reads[0].slot))
	for i, r := range reads {
		page := b[i*pageSize : i*pageSize+int(r.length) : i*pageSize+int(r.length)]
		if err == nil && crc32.Checksum(page, castagnoli()) == r.crc {
			got(r.key.page, page)
			continue
		}
		d.broken.Add(1)
		d.drop(r.key, r.slot)
		missing = append(missing, r.key.page)
	}
	return missing
}

func (d *disk) drop(k key, slot uint32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if s, ok := d.index[k]; ok && s == slot && d.entry[slot].key == k {
		delete(d.index, k)
		d.entry[slot] = diskEntry{}
	}
}

// put writes a page into a slot that the clock chooses.
func (d *disk) put(k key, page []byte) {
	e := diskEntry{key: k, length: uint32(len(page)), crc: crc32.Checksum(page, castagnoli())}
	d.mu.Lock()
	if _, ok := d.index[k]; ok || d.closed {
		d.mu.Unlock()
		return
	}
	slot := d.victim()
	if old := d.entry[slot]; old.length > 0 {
		delete(d.index, old.key)
	}
	d.entry[slot] = diskEntry{} // no reader finds the slot while it is written
	d.used[slot] = true         // and no other put takes it
	d.mu.Unlock()

	// The page before its entry: after a crash in between, the checksum in the
	// old entry does not match the page.
	_, err := d.f.WriteAt(page, d.dataOffset(slot))
	if err == nil {
		_, err = d.f.WriteAt(appendEntry(make([]byte, 0, diskEntrySize), e), d.entryOffset(slot))
	}
	if err != nil {
		d.failed.Add(1) // the page is not kept, which costs no answer
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.index[k]; ok || d.entry[slot].length > 0 {
		return // another put was faster, for the page or for the slot
	}
	d.entry[slot] = e
	d.index[k] = slot
}

// victim chooses a slot by the clock algorithm: the first one from the hand on
// that was not used since the hand last passed it.
func (d *disk) victim() uint32 {
	for {
		slot := d.hand
		d.hand = (d.hand + 1) % d.slots
		if !d.used[slot] {
			return slot
		}
		d.used[slot] = false
	}
}

// forget drops the pages of a block.
func (d *disk) forget(block ulid.ULID) {
	var slots []uint32
	d.mu.Lock()
	for k, slot := range d.index {
		if k.block == block {
			delete(d.index, k)
			d.entry[slot] = diskEntry{}
			d.used[slot] = false
			slots = append(slots, slot)
		}
	}
	closed := d.closed
	d.mu.Unlock()
	if closed {
		return
	}
	for _, slot := range slots {
		if _, err := d.f.WriteAt(make([]byte, diskEntrySize), d.entryOffset(slot)); err != nil {
			d.failed.Add(1)
		}
	}
}

// pages is the number of pages that are kept.
func (d *disk) pages() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.index)
}

func (d *disk) close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	return errors.Join(d.f.Close(), d.lock.Release())
}
