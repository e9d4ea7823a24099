package server

import (
	"context"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hindsight-io/hindsight/pkg/abort"
	"github.com/hindsight-io/hindsight/pkg/errorid"
)

// timedStream ends a call whose client does not read: a message that cannot be sent
// within the timeout fails, so that the handler returns and releases its memory. Only
// the goroutine of the handler uses it.
//
// gRPC has no deadline for one message, and cancels a blocked send only after the
// handler has returned. So a goroutine sends; it ends when the handler has returned,
// and senders waits for it.
type timedStream struct {
	grpc.ServerStream
	ctx     context.Context
	abort   func(error)
	timeout time.Duration
	senders *sync.WaitGroup

	messages chan any
	results  chan error
	timer    *time.Timer
	err      error
}

func newTimedStream(ss grpc.ServerStream, timeout time.Duration, senders *sync.WaitGroup) *timedStream {
	ctx, cancel := abort.With(ss.Context())
	return &timedStream{ServerStream: ss, ctx: ctx, abort: cancel, timeout: timeout, senders: senders}
}

// Context implements grpc.ServerStream. The handler may end the call with it, see
// package abort.
func (s *timedStream) Context() context.Context { return s.ctx }

// SendMsg implements grpc.ServerStream.
func (s *timedStream) SendMsg(m any) error {
	if s.err != nil {
		return s.err
	}
	if s.messages == nil {
		s.start()
	} else {
		s.timer.Reset(s.timeout)
	}
	s.messages <- m
	select {
	case err := <-s.results:
		s.timer.Stop()
		return err
	case <-s.ctx.Done():
		s.err = status.FromContextError(s.ctx.Err()).Err()
		if s.ServerStream.Context().Err() == nil {
			s.err = status.Error(codes.ResourceExhausted, errorid.Text(context.Cause(s.ctx).Error(), errorid.SlowClient))
		}
		return s.err
	case <-s.timer.C:
		s.err = status.Error(codes.DeadlineExceeded, errorid.Text(fmt.Sprintf(
			"the client has not read the answer for %s, which is the limit of the server (--grpc-server-send-timeout)", s.timeout), errorid.SlowClient))
		return s.err
	}
}

func (s *timedStream) start() {
	s.messages, s.results = make(chan any), make(chan error, 1)
	s.timer = time.NewTimer(s.timeout)
	s.senders.Go(func() {
		for m := range s.messages {
			s.results <- s.ServerStream.SendMsg(m)
		}
	})
}

// end ends the sending goroutine after the handler has returned.
func (s *timedStream) end() {
	s.abort(context.Canceled)
	if s.messages != nil {
		close(s.messages)
		s.timer.Stop()
	}
}
