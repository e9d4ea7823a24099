package peer

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
)

const (
	// An idle stream is closed after this time, so that it does not delay the
	// graceful stop of the peer.
	streamIdle = 500 * time.Millisecond
	// A stream is closed after this time, so that connections can be replaced.
	streamAge = time.Minute
)

// streams are the streams to one peer. A message and its reply have a stream to
// themselves; streams are kept for the next message, which costs less than a
// call. Its methods may be called concurrently.
type streams struct {
	open func(context.Context) (grpc.ClientStream, error)

	mu     sync.Mutex
	idle   []*stream // the last one used at the end
	closed bool
}

type stream struct {
	grpc.ClientStream
	cancel context.CancelFunc
	expire *time.Timer // closes an idle stream
	since  time.Time
	sent   outgoing
	reply  incoming
}

// exchange sends a message and waits for the reply. An idle stream may have been
// ended by the peer: then the message is encoded again and sent on another one, in
// the end on a new one. Samples that the peer stores twice are equal.
func (p *streams) exchange(ctx context.Context, message func() mem.BufferSlice) (reply []byte, err error) {
	for {
		s, err := p.take(ctx)
		if err != nil {
			return nil, err
		}
		fresh := s.expire == nil
		reply, err := s.roundTrip(ctx, message())
		if err == nil {
			p.put(s)
			return reply, nil
		}
		s.cancel()
		if fresh || ctx.Err() != nil {
			return nil, err
		}
	}
}

// take returns an idle stream or opens one.
func (p *streams) take(ctx context.Context) (*stream, error) {
	p.mu.Lock()
	if n := len(p.idle); n > 0 {
		s := p.idle[n-1]
		p.idle[n-1] = nil
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		s.expire.Stop()
		return s, nil
	}
	p.mu.Unlock()
	// The stream lives longer than the call that needs it first.
	own, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, cancel)
	cs, err := p.open(own)
	if !stop() && err == nil {
		err = contextError(ctx)
	}
	if err != nil {
		cancel()
		return nil, err
	}
	return &stream{ClientStream: cs, cancel: cancel, since: time.Now()}, nil
}

// put keeps a stream for the next message.
func (p *streams) put(s *stream) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || time.Since(s.since) > streamAge {
		s.cancel()
		return
	}
	if s.expire == nil {
		s.expire = time.AfterFunc(streamIdle, func() { p.end(s) })
	} else {
		s.expire.Reset(streamIdle)
	}
	p.idle = append(p.idle, s)
}

// end closes a stream that is still idle.
func (p *streams) end(s *stream) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(p.idle, s); i >= 0 {
		p.idle = slices.Delete(p.idle, i, i+1)
		s.cancel()
	}
}

// close ends all streams.
func (p *streams) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, s := range p.idle {
		s.expire.Stop()
		s.cancel()
	}
	p.idle = nil
}

// roundTrip sends one message and waits for its reply until ctx ends. After an
// error the stream cannot be used.
func (s *stream) roundTrip(ctx context.Context, data mem.BufferSlice) ([]byte, error) {
	stop := context.AfterFunc(ctx, s.cancel)
	s.sent.data = data
	err := s.SendMsg(&s.sent)
	s.sent.free()
	if err == nil || errors.Is(err, io.EOF) { // the end of a stream has its reason in what is received
		err = s.RecvMsg(&s.reply)
	}
	if !stop() {
		return nil, contextError(ctx)
	}
	return s.reply.data, err
}

func contextError(ctx context.Context) error { return status.FromContextError(ctx.Err()).Err() }
