package harness

import (
	"fmt"
	"path/filepath"
	"strings"
)

// command is the command line of a process of a site.
type command struct {
	bin   string
	args  []string
	dirs  []string // made before the start
	ready string   // URL that answers 200 when it is up
}

// All returns the names of the processes of a site in the order of their start.
func All() []string {
	return []string{
		"node", "s3", "prometheus-eu-a", "prometheus-eu-b", "prometheus-us-a",
		"sidecar-eu-a", "sidecar-eu-b", "sidecar-us-a",
		"receive-1", "receive-2", "receive-3", "prometheus-edge",
		"store", "compact", "query",
	}
}

// command returns the command line of a named process.
func (s *Site) command(name string) command {
	role, which, _ := strings.Cut(name, "-")
	switch role {
	case "node":
		return command{
			bin: s.Bin.NodeExporter, ready: s.URL("node") + "/metrics",
			args: []string{
				"--web.listen-address=" + s.Addr("node"), "--log.level=error", "--collector.disable-defaults",
				"--collector.cpu", "--collector.loadavg", "--collector.meminfo", "--collector.time",
			},
		}
	case "s3":
		return s.s3()
	case "prometheus":
		return s.prometheus(name)
	case "sidecar":
		return s.sidecar(name, which)
	case "receive":
		return s.receive(name, which)
	case "store":
		return s.hindsight("store", name, "--data-dir="+s.Path("store"), "--sync-block-duration=10s")
	case "compact":
		return s.compact()
	case "query":
		return s.query()
	}
	panic("BUG: the site has no process " + name)
}

func (s *Site) s3() command {
	data := s.Path("s3")
	return command{
		bin: s.Bin.S3, ready: s.URL("s3") + "/health",
		args: []string{
			"--access", S3AccessKey, "--secret", S3SecretKey, "--port", s.Addr("s3"), "--quiet", "--health", "/health",
			"posix", "--sidecar", s.Path("objects-meta"), data,
		},
		// Each directory of the root of the S3 server is a bucket.
		dirs: []string{filepath.Join(data, "hindsight"), s.Path("objects-meta")},
	}
}

func (s *Site) prometheus(name string) command {
	return command{
		bin: s.Bin.Prometheus, ready: s.URL(name) + "/-/ready",
		args: []string{
			"--config.file=" + s.Path(name+".yml"), "--storage.tsdb.path=" + s.Path(name),
			"--web.listen-address=" + s.Addr(name),
			// Blocks that are shipped must not be compacted under the sidecar.
			"--storage.tsdb.min-block-duration=2h", "--storage.tsdb.max-block-duration=2h",
			"--storage.tsdb.retention.time=15d", "--web.enable-lifecycle", "--log.level=warn",
		},
		dirs: []string{s.Path(name)},
	}
}

func (s *Site) sidecar(name, which string) command {
	prom := "prometheus-" + which
	return s.hindsight("sidecar", name, "--prometheus.url="+s.URL(prom), "--tsdb.path="+s.Path(prom))
}

func (s *Site) receive(name, which string) command {
	c := s.hindsight("receive", name,
		"--remote-write.address="+s.Addr(name+"/write"),
		"--tsdb.path="+s.Path(name),
		fmt.Sprintf("--label=receive_replica=%q", which),
		"--receive.hashrings-file="+s.Path("hashring.json"),
		"--receive.local-endpoint="+s.Addr(name+"/grpc"),
		"--receive.replication-factor=3",
	)
	c.dirs = []string{s.Path(name)}
	return c
}

func (s *Site) compact() command {
	return command{
		bin: s.Bin.Hindsight, ready: s.URL("compact") + "/-/ready", dirs: []string{s.Path("compact")},
		args: []string{
			"compact", "--wait", "--wait-interval=1m", "--http-address=" + s.Addr("compact"),
			"--data-dir=" + s.Path("compact"), "--objstore.config-file=" + s.Path("objstore.yml"),
		},
	}
}

func (s *Site) query() command {
	args := []string{
		"query", "--http-address=" + s.Addr("query"), "--grpc-address=" + s.Addr("query/grpc"),
		"--query.replica-label=replica", "--query.replica-label=receive_replica",
		"--web.link=Blocks=" + s.URL("store") + "/blocks", "--web.link=Compaction=" + s.URL("compact") + "/compaction",
		"--web.link=Ring=" + s.URL("receive-1") + "/ring", "--web.link=Tenants=" + s.URL("receive-1") + "/tenants",
	}
	for _, name := range s.Endpoints {
		args = append(args, "--endpoint="+s.Addr(name+"/grpc"))
	}
	return command{bin: s.Bin.Hindsight, ready: s.URL("query") + "/-/ready", args: args}
}

// hindsight returns the command of a role that has a gRPC server and a bucket.
func (s *Site) hindsight(role, name string, args ...string) command {
	common := []string{
		role, "--http-address=" + s.Addr(name), "--grpc-address=" + s.Addr(name+"/grpc"),
		"--objstore.config-file=" + s.Path("objstore.yml"),
	}
	return command{
		bin: s.Bin.Hindsight, args: append(common, args...), ready: s.URL(name) + "/-/ready",
		dirs: []string{s.Path(name)},
	}
}
