package prom

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/prometheus/prometheus/model/labels"
)

const (
	// Prometheus cuts frames at 1 MiB by default, and exceeds its limit by less
	// than a chunk. A larger frame is damaged.
	maxFrame = 64 << 20
	// Small frames share a block of memory, so that a million short series do
	// not cost a million allocations. A reader that keeps one chunk keeps its
	// block alive.
	arenaBlock = 64 << 10
)

// stream reads the frames of a streamed remote read. A frame is a varint length,
// a big-endian CRC-32C of the data, and the data: one ChunkedReadResponse.
// It holds one frame in memory. Frames are not reused, so chunks from them stay
// valid.
type stream struct {
	body  io.ReadCloser
	buf   *bufio.Reader
	table *crc32.Table
	arena []byte

	frame frame
	dec   decoder
	err   error
}

func newStream(body io.ReadCloser, strip labels.Labels) *stream {
	return &stream{
		body:  body,
		buf:   bufio.NewReaderSize(body, 64<<10),
		table: crc32.MakeTable(crc32.Castagnoli),
		dec:   newDecoder(strip),
	}
}

// Next decodes the next series of the frame, or reads the next frame.
func (s *stream) Next() bool {
	for s.err == nil {
		raw, err := s.frame.nextSeries()
		if err != nil {
			s.err = fmt.Errorf("remote read: decode a frame: %w", err)
			return false
		}
		if raw != nil {
			if err := s.dec.decode(raw); err != nil {
				s.err = fmt.Errorf("remote read: decode a series: %w", err)
				return false
			}
			return true
		}
		data, err := s.readFrame()
		if errors.Is(err, io.EOF) {
			return false
		}
		if err != nil {
			s.err = fmt.Errorf("remote read: receive a frame: %w", err)
			return false
		}
		s.frame = newFrame(data)
	}
	return false
}

func (s *stream) Labels() labels.Labels { return s.dec.labels }
func (s *stream) Chunks() []Chunk       { return s.dec.chunks }
func (s *stream) Err() error            { return s.err }
func (s *stream) Close() error          { return s.body.Close() }

// readFrame returns io.EOF at the proper end only.
func (s *stream) readFrame() ([]byte, error) {
	size, err := binary.ReadUvarint(s.buf)
	if err != nil {
		return nil, err
	}
	if size > maxFrame {
		return nil, fmt.Errorf("frame of %d bytes is larger than the allowed %d", size, maxFrame)
	}
	var sum [crc32.Size]byte
	if _, err := io.ReadFull(s.buf, sum[:]); err != nil {
		return nil, midFrame(err)
	}
	data := s.alloc(int(size))
	if _, err := io.ReadFull(s.buf, data); err != nil {
		return nil, midFrame(err)
	}
	if got := crc32.Checksum(data, s.table); got != binary.BigEndian.Uint32(sum[:]) {
		return nil, errors.New("checksum mismatch: the stream was cut by an error in Prometheus, or damaged")
	}
	return data, nil
}

// midFrame makes an end inside a frame an error.
func midFrame(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (s *stream) alloc(n int) []byte {
	if n > arenaBlock/4 {
		return make([]byte, n)
	}
	if n > len(s.arena) {
		s.arena = make([]byte, arenaBlock)
	}
	b := s.arena[:n:n]
	s.arena = s.arena[n:]
	return b
}
