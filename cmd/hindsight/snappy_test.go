package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	"github.com/hindsight-io/hindsight/pkg/grpcsnappy"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storepb/infopb"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storerpc"
)

// programArgs names the environment variable with the arguments of a role that the
// test binary runs as a process. Codecs are registered for a whole process, so a role
// in the process of the test would use the codecs of the test.
const programArgs = "HINDSIGHT_TEST_PROGRAM_ARGS"

func TestRunAsProgram(t *testing.T) {
	text, ok := os.LookupEnv(programArgs)
	if !ok {
		t.Skip("is the program of other tests")
	}
	var args []string
	require.NoError(t, json.Unmarshal([]byte(text), &args))
	os.Exit(run(context.Background(), args, streams{out: os.Stdout, err: os.Stderr}))
}

// startProgram runs the arguments as a process and returns its gRPC address.
func startProgram(t *testing.T, args ...string) string {
	t.Helper()
	text, err := json.Marshal(append(args, "--http-address=127.0.0.1:0", "--grpc-address=127.0.0.1:0"))
	require.NoError(t, err)
	cmd := exec.Command(os.Args[0], "-test.run=^TestRunAsProgram$")
	cmd.Env = append(os.Environ(), programArgs+"="+string(text))
	log, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		if _, rest, ok := strings.Cut(lines.Text(), `msg="listening for gRPC" address=`); ok {
			go func() { _, _ = io.Copy(io.Discard, log) }()
			return strings.Fields(rest)[0]
		}
		t.Log(lines.Text())
	}
	t.Fatal("the role does not listen")
	return ""
}

// compressions records the compression of the requests of a client.
type compressions struct {
	stats.Handler
	seen chan string
}

func (c compressions) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }
func (c compressions) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context {
	return ctx
}
func (c compressions) HandleConn(context.Context, stats.ConnStats) {}
func (c compressions) HandleRPC(_ context.Context, s stats.RPCStats) {
	if h, ok := s.(*stats.InHeader); ok {
		select {
		case c.seen <- h.Compression:
		default:
		}
	}
}

// Every role understands calls that are compressed with snappy, and the roles
// that query stores can compress their calls.
func TestSnappy_EveryRole(t *testing.T) {
	grpcsnappy.Register()
	seen := make(chan string, 1)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	srv := grpc.NewServer(append(storerpc.ServerOptions(), grpc.StatsHandler(compressions{seen: seen}))...)
	storerpc.RegisterInfo(srv, storerpc.InfoConfig{Info: func() storeapi.Info { return storeapi.Info{} }})
	go func() { _ = srv.Serve(lis) }()
	t.Cleanup(srv.Stop)

	bucket := "--objstore.config={type: FILESYSTEM, config: {directory: " + t.TempDir() + "}}"
	asks := []string{"--endpoint=" + lis.Addr().String(), "--grpc-compression=snappy"}
	for _, role := range [][]string{
		{"sidecar", "--prometheus.url=http://127.0.0.1:1", "--tsdb.path=" + t.TempDir()},
		{"receive", "--tsdb.path=" + t.TempDir(), "--label=replica=\"a\"", "--remote-write.address=127.0.0.1:0"},
		{"store", bucket, "--data-dir=" + t.TempDir()},
		append([]string{"query"}, asks...),
		{"all", "--data-dir=" + t.TempDir()},
	} {
		t.Run(role[0], func(t *testing.T) {
			conn, err := grpc.NewClient(startProgram(t, role...), grpc.WithTransportCredentials(insecure.NewCredentials()))
			require.NoError(t, err)
			defer func() { require.NoError(t, conn.Close()) }()
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			_, err = infopb.NewInfoClient(conn).Info(ctx, &infopb.InfoRequest{}, grpc.UseCompressor(grpcsnappy.Name), grpc.WaitForReady(true))
			// A role that is not ready fails with Unknown; one that does not know the
			// compression returns Unimplemented.
			if err != nil {
				require.Equal(t, codes.Unknown, status.Code(err), err)
				require.ErrorContains(t, err, "Not ready")
			}
			if role[0] == "query" {
				require.Equal(t, "snappy", <-seen)
			}
		})
	}
}
