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
	tables map[tableKey]*table
	slot   []slot
	used   []uint8 // how often the hand still passes
	owner  []uint16
	shares shares
	state  []slotState
	busy   []bool // a put writes pages into it
	kept   int
	hand   uint32
	closed bool
	broken atomic.Int64 // pages that did not match their checksum
	failed atomic.Int64 // writes that failed
}

// tablePages is the number of neighbouring pages of an object that share a table.
const tablePages = 512

type tableKey struct {
	block ulid.ULID
	file  uint32
	first uint32 // page number / tablePages
}

func (k key) table() (tableKey, uint32) {
	return tableKey{k.block, k.file, k.page / tablePages}, k.page % tablePages
}

// table has the slots of neighbouring pages, so that finding a page costs no hashing
// and four bytes of memory.
type table struct {
	key  tableKey
	kept int
	slot [tablePages]uint32 // number of the slot + 1; 0 is none
}

// slot is what memory has of the directory entry of a slot; a slot without a table is
// free.
type slot struct {
	table  *table
	crc    uint32
	in     uint16 // number of the page within its table
	length uint16
}

// diskEntry is the content of a slot as the directory has it; a slot of length 0 is
// free.
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
		tables: map[tableKey]*table{}, slot: make([]slot, slots), used: make([]uint8, slots), owner: make([]uint16, slots),
		state: make([]slotState, slots), busy: make([]bool, slots),
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
				d.set(slot+i, e) // of two slots with one key, the last one counts
			}
		}
	}
	return nil
}

// find returns the slot of a page. It needs the lock.
func (d *disk) find(k key) (uint32, bool) {
	tk, in := k.table()
	t := d.tables[tk]
	if t == nil || t.slot[in] == 0 {
		return 0, false
	}
	return t.slot[in] - 1, true
}

// set records a page in a free slot. It needs the lock.
func (d *disk) set(n uint32, e diskEntry) {
	tk, in := e.key.table()
	t := d.tables[tk]
	if t == nil {
		t = &table{key: tk}
		d.tables[tk] = t
	}
	if old := t.slot[in]; old != 0 {
		d.free(old - 1)
		d.tables[tk] = t // if that was its only page
	}
	t.slot[in] = n + 1
	d.state[n] = d.state[n].next()
	t.kept++
	d.kept++
	d.slot[n] = slot{table: t, in: uint16(in), length: uint16(e.length), crc: e.crc}
}

// free forgets the page in a slot, if there is one. It needs the lock.
func (d *disk) free(n uint32) {
	s := &d.slot[n]
	if s.table == nil {
		return
	}
	s.table.slot[s.in] = 0
	if s.table.kept--; s.table.kept == 0 {
		delete(d.tables, s.table.key)
	}
	d.kept--
	*s = slot{}
	d.own(n, 0)
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

// maxTogether is the number of neighbouring slots that one read or write takes at most.
const maxTogether = 256

// has says whether a page is kept.
func (d *disk) has(o Object, page uint32) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, ok := d.find(key{o.Block, o.File, page})
	return ok && !d.closed
}

// slotRead is a page to read from a slot.
type slotRead struct {
	table           *table
	page, slot, crc uint32
	length          uint16
	state           slotState
	// same says that the slot had the page before and after it was read.
	same bool
}

// get copies the pages want of an object into memory and appends those that are not
// kept to missing, in ascending order. Pages that were written together are read
// together.
func (d *disk) get(o Object, into *loadedRun, want run, missing []uint32) []uint32 {
	var few [16]slotRead
	reads := few[:0]
	first := len(missing)
	var t *table
	d.mu.Lock()
	for page := want.first; page < want.end; page++ {
		tk, in := key{o.Block, o.File, page}.table()
		if page == want.first || in == 0 {
			t = d.tables[tk]
		}
		if t == nil || t.slot[in] == 0 || d.closed {
			missing = append(missing, page)
			continue
		}
		n := t.slot[in] - 1
		s := &d.slot[n]
		if int(s.length) != len(into.page(page)) {
			missing = append(missing, page)
			continue
		}
		d.use(n, o.Tenant)
		reads = append(reads, slotRead{page: page, slot: n, length: s.length, crc: s.crc, table: t, state: d.state[n]})
	}
	d.mu.Unlock()
	for len(reads) > 0 {
		n := 1
		for n < len(reads) && n < maxTogether && reads[n].slot == reads[n-1].slot+1 && reads[n].page == reads[n-1].page+1 {
			n++
		}
		missing = d.readSlots(o, reads[:n], into, missing)
		reads = reads[n:]
	}
	slices.Sort(missing[first:])
	return missing
}

// readSlots reads neighbouring pages from neighbouring slots. Another page may have
// been written into a slot in the meantime: a slot that still has its page had it all the
// time, and the checksum of any other page differs.
func (d *disk) readSlots(o Object, reads []slotRead, into *loadedRun, missing []uint32) []uint32 {
	last := reads[len(reads)-1]
	off := int(reads[0].page-into.first) * pageSize
	b := into.b[off : off+(len(reads)-1)*pageSize+int(last.length)]
	_, err := d.f.ReadAt(b, d.dataOffset(reads[0].slot))
	d.compare(reads)
	fresh := false
	for i := range reads {
		r := &reads[i]
		if err == nil && r.same && r.state.checked() {
			continue
		}
		if err == nil && crc32.Checksum(b[i*pageSize:i*pageSize+int(r.length)], castagnoli()) == r.crc {
			fresh = true
			continue
		}
		r.same = false
		d.broken.Add(1)
		d.drop(key{o.Block, o.File, r.page})
		missing = append(missing, r.page)
	}
	if fresh {
		d.checked(reads)
	}
	return missing
}

// drop forgets a page.
func (d *disk) drop(k key) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if n, ok := d.find(k); ok {
		d.free(n)
	}
}

// put writes neighbouring pages, the first of which is number first, into slots that
// the clock chooses. It leaves out pages that are kept already.
func (d *disk) put(o Object, first uint32, b []byte) {
	for len(b) > 0 {
		entries, slots, skipped := d.reserve(o, first, b)
		n := len(entries)
		if n > 0 {
			d.write(entries, slots[0], b[skipped*pageSize:min(len(b), (skipped+n)*pageSize)], o.Tenant)
		}
		first += uint32(skipped + n)
		b = b[min(len(b), (skipped+n)*pageSize):]
	}
}

// reserve chooses neighbouring slots for the first pages of b that are not kept:
// skipped pages are before them. There are none when all are kept, or when other puts
// write into all slots.
func (d *disk) reserve(o Object, first uint32, b []byte) (entries []diskEntry, slots []uint32, skipped int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	chances := uint8(1)
	if o.Tenant != "" {
		chances = d.shares.chances(d.shares.known(o.Tenant), d.slots, true)
	}
	for i := 0; i*pageSize < len(b) && len(slots) < maxTogether; i++ {
		k := key{o.Block, o.File, first + uint32(i)}
		if _, ok := d.find(k); ok || d.closed {
			if len(slots) > 0 {
				break
			}
			skipped++
			continue
		}
		if n := len(slots); n > 0 && (d.hand != slots[n-1]+1 || d.used[d.hand] > 0 || d.busy[d.hand]) {
			break // the next page goes elsewhere
		}
		n, ok := d.victim()
		if !ok {
			// These pages are not kept, which costs no answer.
			return nil, nil, (len(b) + pageSize - 1) / pageSize
		}
		d.free(n)        // no reader finds the slot while it is written,
		d.busy[n] = true // and no other put takes it
		d.used[n] = chances
		page := b[i*pageSize : min(len(b), (i+1)*pageSize)]
		slots = append(slots, n)
		entries = append(entries, diskEntry{key: k, length: uint32(len(page)), crc: crc32.Checksum(page, castagnoli())})
	}
	return entries, slots, skipped
}

// write writes pages into neighbouring slots and records them, for the tenant.
func (d *disk) write(entries []diskEntry, first uint32, b []byte, tenant string) {
	// The pages before their entries: after a crash in between, the checksum in the
	// old entry does not match the page.
	_, err := d.f.WriteAt(b, d.dataOffset(first))
	if err == nil {
		dir := make([]byte, 0, len(entries)*diskEntrySize)
		for _, e := range entries {
			dir = appendEntry(dir, e)
		}
		_, err = d.f.WriteAt(dir, d.entryOffset(first))
	}
	if err != nil {
		d.failed.Add(1) // the pages are not kept, which costs no answer
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, e := range entries {
		n := first + uint32(i)
		d.busy[n] = false
		if _, ok := d.find(e.key); ok || err != nil {
			continue // another put was faster
		}
		d.set(n, e)
		d.own(n, d.shares.id(tenant))
	}
}

// victim chooses a slot by the clock algorithm: the first one from the hand on
// that has no chances left (shares). There is none when all are being
// written: two puts in one slot would leave the page of one with the data of the other.
func (d *disk) victim() (slot uint32, ok bool) {
	for range (protectedChances + 1) * uint64(d.slots) {
		slot = d.hand
		d.hand = (d.hand + 1) % d.slots
		if d.used[slot] == 0 && !d.busy[slot] {
			return slot, true
		}
		d.used[slot] -= min(d.used[slot], 1)
	}
	return 0, false
}

// pages is the number of pages that are kept.
func (d *disk) pages() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.kept
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
