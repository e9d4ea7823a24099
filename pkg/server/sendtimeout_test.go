package server

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// streamer serves one streamed call that sends without end.
type streamer struct {
	*recorder
	ended chan error
}

func (c *streamer) RegisterGRPC(r grpc.ServiceRegistrar) {
	r.RegisterService(&grpc.ServiceDesc{ServiceName: "test", HandlerType: (*any)(nil), Streams: []grpc.StreamDesc{{
		StreamName: "Endless", ServerStreams: true,
		Handler: func(_ any, ss grpc.ServerStream) error {
			var in wrapperspb.BytesValue
			if err := ss.RecvMsg(&in); err != nil {
				return err
			}
			for {
				if err := ss.SendMsg(wrapperspb.Bytes(make([]byte, 64<<10))); err != nil {
					c.ended <- err
					return err
				}
			}
		},
	}}}, c)
}

func TestSendTimeout_EndsOnlyTheStreamThatIsNotRead(t *testing.T) {
	comp := &streamer{recorder: newRecorder(), ended: make(chan error, 2)}
	close(comp.ready)
	cfg := testConfig()
	require.NoError(t, cfg.GRPCSendTimeout.Set("300ms"))
	a, stop, ended := startWith(t, cfg, comp)
	conn, err := grpc.NewClient(a.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	open := func() grpc.ClientStream {
		s, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true}, "/test/Endless")
		require.NoError(t, err)
		require.NoError(t, s.SendMsg(wrapperspb.Bytes(nil)))
		require.NoError(t, s.CloseSend())
		return s
	}
	unread, read := open(), open()
	var got wrapperspb.BytesValue
	for done := false; !done; {
		require.NoError(t, read.RecvMsg(&got), "a client that reads is served")
		select {
		case err := <-comp.ended:
			require.Equal(t, codes.DeadlineExceeded, status.Code(err))
			require.ErrorContains(t, err, "--grpc-server-send-timeout")
			done = true
		case <-time.After(time.Millisecond):
		}
	}
	require.NoError(t, read.RecvMsg(&got))
	// The client gets the messages that were sent, then the status of the call.
	for err = nil; err == nil; {
		err = unread.RecvMsg(&got)
	}
	require.Equal(t, codes.DeadlineExceeded, status.Code(err))
	require.NoError(t, conn.Close())
	require.Error(t, <-comp.ended)
	stop()
	require.NoError(t, <-ended)
}
