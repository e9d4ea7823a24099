package storerpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/hindsight-io/hindsight/pkg/limit"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storepb"
)

// framesAhead is how many decoded frames wait for the reader, beside the one
// that it reads and the one that is being received.
const framesAhead = 1

// Select opens a stream. It returns at once: receiving and decoding run ahead of
// the reader, by two frames at most, so that many stores work at the same time.
func (c *Client) Select(ctx context.Context, r *storeapi.Request) storeapi.SeriesSet {
	req, err := seriesRequestToWire(r, c.batch)
	if err != nil {
		return storeapi.ErrSet(fmt.Errorf("ask store %s for series: %w", c.name, err))
	}
	ctx, cancel := context.WithCancelCause(metadata.AppendToOutgoingContext(outgoing(ctx), queuedKey, "true", packedKey, "true"))
	s := &clientSet{
		client: c,
		ctx:    ctx,
		cancel: cancel,
		frames: make(chan *frame, framesAhead),
		free:   make(chan *frame, framesAhead+2),
	}
	go s.receive(req)
	return s
}

// clientSet is a stream of frames. The goroutine that receives owns tail until
// it closes frames; the reader owns everything after that.
type clientSet struct {
	client *Client
	ctx    context.Context
	cancel context.CancelCauseFunc
	frames chan *frame
	free   chan *frame

	tail struct {
		err      error
		warnings texts
		stats    storeapi.Stats
		// bad says that a chunk was left out already.
		bad bool
	}

	cur   *frame
	next  int
	ended bool
}

// silence is the cause of cancelling a stream that was silent for so long.
type silence time.Duration

func (s silence) Error() string { return "no frame in " + time.Duration(s).String() }

// receive reads the stream and sends its frames to s.frames, which it closes at the
// end. It owns s.tail until then; the error, warnings and statistics of the stream
// are there. It ends the stream after maxEmptyFrames messages in a row without a
// series, because the reader of the set waits for one and could not end it.
func (s *clientSet) receive(req *storepb.SeriesRequest) {
	defer close(s.frames)
	stream, err := s.client.store.Series(s.ctx, req, s.client.callOptions...)
	if err != nil {
		s.tail.err = s.wrap(err)
		return
	}
	for empty := 0; ; {
		f := s.emptyFrame()
		if err := s.receiveFrame(stream, f); errors.Is(err, io.EOF) {
			noteSkipped(s.ctx, stream.Trailer(), s.client.name)
			return
		} else if err != nil {
			s.tail.err = s.wrap(err)
			return
		}
		s.note(f)
		if len(f.series) == 0 {
			if empty++; empty > maxEmptyFrames {
				s.tail.err = fmt.Errorf("receive series from %s: %w: more than %d messages without a series", s.client.name, limit.ErrExceeded, maxEmptyFrames)
				s.cancel(s.tail.err)
				return
			}
			continue
		}
		empty = 0
		select {
		case s.frames <- f:
		case <-s.ctx.Done():
			s.tail.err = s.wrap(s.ctx.Err())
			return
		}
	}
}

// note keeps the warnings and hints of a frame.
func (s *clientSet) note(f *frame) {
	s.tail.warnings.addAll(f.warnings)
	if f.bad != nil && !s.tail.bad {
		s.tail.bad = true
		s.tail.warnings.add([]byte(fmt.Sprintf("store %s sent a chunk that cannot be read, which is left out: %v", s.client.name, f.bad)))
	}
	if f.hints != nil && len(s.tail.stats.QueriedBlocks) < maxFrameSeries {
		s.tail.stats.Add(statsFromWire(f.hints))
	}
}

// receiveFrame measures the time in which the server is waited for, not that in
// which the reader is.
func (s *clientSet) receiveFrame(stream grpc.ClientStream, f *frame) error {
	p := s.client.pace
	if p == nil {
		return stream.RecvMsg(f)
	}
	if d := p.Limit(s.ctx); d > 0 {
		timer := time.AfterFunc(d, func() { s.cancel(silence(d)) })
		defer timer.Stop()
	}
	start := time.Now()
	err := stream.RecvMsg(f)
	var silent silence
	if err == nil || errors.As(context.Cause(s.ctx), &silent) {
		p.Waited(time.Since(start))
	}
	return err
}

func (s *clientSet) emptyFrame() *frame {
	select {
	case f := <-s.free:
		return f
	default:
		return &frame{}
	}
}

// wrap names the store. A stream that its own reader cancelled fails with the
// error of the reader's context.
func (s *clientSet) wrap(err error) error {
	var silent silence
	if errors.As(context.Cause(s.ctx), &silent) {
		return fmt.Errorf("failed to receive any data in %s from %s: %w", time.Duration(silent).Round(time.Millisecond), s.client.name, storeapi.ErrSilent)
	}
	return fmt.Errorf("receive series from %s: %w", s.client.name, fromStatus(err))
}

func (s *clientSet) Next() bool {
	if s.ended {
		return false
	}
	if s.cur != nil {
		if s.next++; s.next < len(s.cur.series) {
			return true
		}
		select {
		case s.free <- s.cur:
		default:
		}
		s.cur = nil
	}
	f, ok := <-s.frames
	if !ok {
		s.ended = true
		return false
	}
	s.cur, s.next = f, 0
	return true
}

func (s *clientSet) At() storeapi.Series { return s.cur.series[s.next] }

// Err, Warnings and Stats say nothing before the end of the stream.
func (s *clientSet) Err() error {
	if !s.ended {
		return nil
	}
	return s.tail.err
}

func (s *clientSet) Warnings() storeapi.Warnings {
	if !s.ended {
		return nil
	}
	return s.client.warnings(s.tail.warnings)
}

func (s *clientSet) Stats() storeapi.Stats {
	if !s.ended {
		return storeapi.Stats{}
	}
	return s.tail.stats
}

// Close ends the stream and waits until nothing runs for it any more.
func (s *clientSet) Close() error {
	s.cancel(context.Canceled)
	for range s.frames {
	}
	if !s.ended {
		s.tail.err = nil // the reader wanted no more; that is no failure
	}
	s.ended, s.cur = true, nil
	return nil
}
