package walrepair

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"path/filepath"
	"strconv"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"

	"github.com/hindsight-io/hindsight/pkg/vfs"
)

// headChunksDir is the directory of the chunks of the head.
const headChunksDir = "chunks_head"

// maxHeadChunk bounds the size of a chunk in chunks_head; the TSDB writes chunks of
// some KiB at most. The bytes from a larger one on are kept as they are.
const maxHeadChunk = 1 << 20

// headChunks takes the out-of-order chunks out of chunks_head. All of their samples
// that are not in blocks are in the log of out-of-order samples, which is replayed
// whole as it has no markers any more; the other chunks are leftovers of
// a compaction. The TSDB would take the place of a leftover as the end of all
// chunks that are in blocks. When it then finds no other chunk to keep, it deletes
// all files and numbers new ones from 1 again, so that new out-of-order chunks
// have places before that end: it leaves them out of answers and deletes them
// before they are in a block.
//
// Without a log of out-of-order samples, or when records of it were damaged, the
// chunks stay, as they may have the only copy of a sample.
func (r *repairer) headChunks(damaged int) error {
	if _, err := r.fs.Stat(filepath.Join(r.dir, outOfOrderLog)); damaged > 0 || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	dir := filepath.Join(r.dir, headChunksDir)
	entries, err := r.fs.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = vfs.RemoveTemp(r.fs, dir, "")
	}
	if err != nil {
		return fmt.Errorf("list the chunks of the head: %w", err)
	}
	for _, e := range entries {
		if _, err := strconv.ParseUint(e.Name(), 10, 32); err != nil || e.IsDir() {
			continue
		}
		if err := r.headChunkFile(filepath.Join(dir, e.Name())); err != nil {
			return fmt.Errorf("take the out-of-order chunks out of the head: %w", err)
		}
	}
	return nil
}

// headChunkFile replaces a file by one without out-of-order chunks, if it has any.
func (r *repairer) headChunkFile(name string) error {
	found := false
	err := r.scanHeadChunks(name, io.Discard, func(outOfOrder bool) { found = found || outOfOrder })
	if err != nil || !found {
		return err
	}
	return vfs.WriteFile(r.fs, name, 0o666, func(w io.Writer) error {
		b := bufio.NewWriterSize(w, 1<<20)
		return errors.Join(r.scanHeadChunks(name, b, func(bool) {}), b.Flush())
	})
}

// scanHeadChunks writes a file to w without its out-of-order chunks, and calls
// visit for each chunk. From the first byte on that is not a whole chunk, the file
// is written as it is: its rest is empty, or damaged, which is the TSDB's to find.
func (r *repairer) scanHeadChunks(name string, w io.Writer, visit func(outOfOrder bool)) (err error) {
	f, err := r.fs.Open(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	in := bufio.NewReaderSize(f, maxHeadChunk)
	if _, err := io.CopyN(w, in, chunks.HeadChunkFileHeaderSize); errors.Is(err, io.EOF) {
		return nil // shorter than a header, which has been copied
	} else if err != nil {
		return err
	}
	for {
		chunk, outOfOrder, err := peekHeadChunk(in)
		if err != nil {
			return err
		}
		if chunk == nil {
			break
		}
		visit(outOfOrder)
		if !outOfOrder {
			if _, err := w.Write(chunk); err != nil {
				return err
			}
		}
		if _, err := in.Discard(len(chunk)); err != nil {
			return err
		}
	}
	_, err = io.Copy(w, in)
	return err
}

// peekHeadChunk returns the bytes of the next chunk, checksum included, and nil
// where none begins. They are valid until the reader is used again. A chunk is:
// series reference (8), mint (8), maxt (8), encoding (1), length (varint), data,
// checksum of all before (4); the encoding has a bit for out-of-order chunks.
func peekHeadChunk(in *bufio.Reader) (chunk []byte, outOfOrder bool, err error) {
	const lengthAt = chunks.SeriesRefSize + 2*chunks.MintMaxtSize + chunks.ChunkEncodingSize
	head, err := in.Peek(chunks.MaxHeadChunkMetaSize)
	if errors.Is(err, io.EOF) {
		return nil, false, nil
	} else if err != nil {
		return nil, false, err
	}
	length, n := binary.Uvarint(head[lengthAt : lengthAt+chunks.MaxChunkLengthFieldSize])
	encoding := chunkenc.Encoding(head[lengthAt-1])
	if n <= 0 || length > maxHeadChunk-chunks.MaxHeadChunkMetaSize {
		return nil, false, nil
	}
	end := lengthAt + n + int(length)
	chunk, err = in.Peek(end + chunks.CRCSize)
	if errors.Is(err, io.EOF) {
		return nil, false, nil
	} else if err != nil {
		return nil, false, err
	}
	if crc32.Checksum(chunk[:end], crc32.MakeTable(crc32.Castagnoli)) != binary.BigEndian.Uint32(chunk[end:]) {
		return nil, false, nil
	}
	return chunk, uint8(encoding)&chunks.OutOfOrderMask != 0, nil
}
