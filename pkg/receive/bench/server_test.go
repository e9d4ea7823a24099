package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/util/compression"
	"google.golang.org/grpc"

	"github.com/hindsight-io/hindsight/pkg/grpcsnappy"
	"github.com/hindsight-io/hindsight/pkg/receive"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storerpc"
)

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// serve prints the addresses and waits for the end of the standard input.
func serve(urls ...string) {
	http.HandleFunc("/usage", func(w http.ResponseWriter, _ *http.Request) {
		var ru syscall.Rusage
		must(syscall.Getrusage(syscall.RUSAGE_SELF, &ru))
		var ms runtime.MemStats
		runtime.ReadMemStats(&ms)
		_ = json.NewEncoder(w).Encode(usage{
			CPU: time.Duration(ru.Utime.Nano() + ru.Stime.Nano()), RSS: resident(), Allocs: ms.Mallocs, Heap: ms.HeapAlloc,
		})
	})
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	go func() { _ = http.Serve(lis, nil) }()
	base := "http://" + lis.Addr().String()
	if len(urls) == 0 {
		urls = []string{base}
	}
	fmt.Println(base+"/usage", strings.Join(urls, " "))
	_, _ = io.Copy(io.Discard, os.Stdin)
}

func resident() int64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	pages, _ := strconv.ParseInt(strings.Fields(string(b))[1], 10, 64)
	return pages * int64(os.Getpagesize())
}

// serveBare appends to a TSDB with the options of a tenant's, with references,
// in transactions of the size of a request.
func serveBare(n int) {
	o := tsdb.DefaultOptions()
	o.WALCompression, o.IsolationDisabled, o.StripeSize = compression.Snappy, true, 512
	o.OutOfOrderTimeWindow = (2 * time.Hour).Milliseconds()
	db, err := tsdb.Open(os.Getenv("HINDSIGHT_BENCH_DIR"), slog.New(slog.DiscardHandler), nil, o, nil)
	must(err)
	refs, sets := make([]storage.SeriesRef, n), make([]labels.Labels, n)
	for i := range sets {
		sets[i] = seriesLabels(i)
	}
	ts := time.Now().Add(-time.Hour).UnixMilli()
	http.HandleFunc("/append", func(_ http.ResponseWriter, r *http.Request) {
		rounds, _ := strconv.Atoi(r.URL.Query().Get("rounds"))
		for range rounds {
			for from := 0; from < n; from += perRequest {
				app := db.Appender(r.Context())
				for i := from; i < min(from+perRequest, n); i++ {
					refs[i], err = app.Append(refs[i], sets[i], ts, float64(i))
					must(err)
				}
				must(app.Commit())
			}
			ts += interval
		}
	})
	serve()
	must(db.Close())
}

// serveReceive runs nodes in this process that speak over real connections.
func serveReceive(n int) {
	var (
		listeners []net.Listener
		names     []string
		urls      []string
	)
	if os.Getenv("HINDSIGHT_BENCH_PROFILE") != "" {
		runtime.MemProfileRate = 512
	}
	grpcsnappy.Register()
	for range n {
		lis, err := net.Listen("tcp", "127.0.0.1:0")
		must(err)
		listeners = append(listeners, lis)
		names = append(names, strconv.Quote(lis.Addr().String()))
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, n)
	for i, lis := range listeners {
		cfg := receive.DefaultConfig()
		cfg.RemoteWriteAddress = "127.0.0.1:0"
		cfg.TSDB.Path = filepath.Join(os.Getenv("HINDSIGHT_BENCH_DIR"), strconv.Itoa(i))
		if n > 1 {
			cfg.Hashrings = `[{"endpoints": [` + strings.Join(names, ",") + `]}]`
			cfg.ReplicationFactor = 3
		}
		if c := os.Getenv("HINDSIGHT_BENCH_COMPRESSION"); c != "" {
			cfg.Compression = c
		}
		r, err := receive.New(cfg, receive.Deps{
			Logger:     slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
			Registerer: prometheus.NewRegistry(), GRPCAddress: lis.Addr().String(),
		})
		must(err)
		g := grpc.NewServer(storerpc.ServerOptions()...)
		r.RegisterGRPC(g)
		go func() { _ = g.Serve(lis) }()
		go func() { done <- r.Run(ctx) }()
		for r.Ready() != nil {
			time.Sleep(10 * time.Millisecond)
		}
		urls = append(urls, "http://"+r.RemoteWriteAddr().String())
	}
	serve(urls...)
	stop()
	for range n {
		must(<-done)
	}
}
