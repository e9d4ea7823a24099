package examples

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/hindsight-io/hindsight/pkg/receive/tenantlimits"
)

// strict decodes YAML; unknown keys are errors.
func strict(t *testing.T, name string, into any) {
	t.Helper()
	content, err := os.ReadFile(name)
	require.NoError(t, err)
	dec := yaml.NewDecoder(bytes.NewReader(content))
	dec.KnownFields(true)
	require.NoError(t, dec.Decode(into), name)
	require.ErrorIs(t, dec.Decode(new(any)), io.EOF, name)
}

// flagsOf returns the flags of a role. docs/flags is made from the program.
func flagsOf(t *testing.T, role string) map[string]bool {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("../docs/flags", role+".md"))
	require.NoError(t, err)
	out := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `--(?:\\[no-\\])?([^`]+)`").FindAllSubmatch(content, -1) {
		out[string(m[1])] = true
	}
	require.Greater(t, len(out), 20)
	return out
}

func requireFlags(t *testing.T, args []string) {
	t.Helper()
	require.NotEmpty(t, args)
	known := flagsOf(t, args[0])
	for _, a := range args[1:] {
		name, _, _ := strings.Cut(strings.TrimPrefix(a, "--"), "=")
		require.True(t, known[name], "hindsight %s has no flag %s", args[0], a)
	}
}

// The rules are valid, and federation selects each of them.
func TestFederation(t *testing.T) {
	groups, errs := rulefmt.ParseFile("federation/rules-cluster.yml", false, model.UTF8Validation, parser.NewParser(parser.Options{}), slog.New(slog.DiscardHandler))
	require.Empty(t, errs)
	selected := func(name string) (out bool) {
		var cfg config.Config
		content, err := os.ReadFile("federation/prometheus-global.yml")
		require.NoError(t, err)
		require.NoError(t, yaml.Unmarshal(content, &cfg))
		for _, sc := range cfg.ScrapeConfigs {
			require.Equal(t, "/federate", sc.MetricsPath)
			require.True(t, sc.HonorLabels)
			for _, text := range sc.Params["match[]"] {
				matchers, err := parser.NewParser(parser.Options{}).ParseMetricSelector(text)
				require.NoError(t, err)
				all := true
				for _, m := range matchers {
					all = all && (m.Name == model.MetricNameLabel && m.Matches(name))
				}
				out = out || all
			}
		}
		return out
	}
	exported := jmxNames(t)
	kafka := 0
	for _, g := range groups.Groups {
		for _, r := range g.Rules {
			require.True(t, selected(r.Record), r.Record)
			for _, name := range regexp.MustCompile(`kafka_\w+`).FindAllString(r.Expr, -1) {
				kafka++
				require.True(t, exported(name), "the JMX agent exports no %s", name)
			}
		}
	}
	require.Equal(t, 2, kafka)
}

// jmxNames reads the configuration of the JMX agent, and returns whether one of its rules
// makes a metric.
func jmxNames(t *testing.T) func(name string) bool {
	var cfg struct {
		LowercaseOutputName       bool     `yaml:"lowercaseOutputName"`
		LowercaseOutputLabelNames bool     `yaml:"lowercaseOutputLabelNames"`
		Whitelist                 []string `yaml:"whitelistObjectNames"`
		Rules                     []struct {
			Pattern, Name, Type string
			Labels              map[string]string
		}
	}
	strict(t, "federation/jmx-kafka.yml", &cfg)
	var made []*regexp.Regexp
	for _, r := range cfg.Rules {
		_, err := regexp.Compile(r.Pattern)
		require.NoError(t, err)
		require.Contains(t, []string{"COUNTER", "GAUGE"}, r.Type)
		made = append(made, regexp.MustCompile("^"+strings.ReplaceAll(r.Name, "$1", `\w+`)+"$"))
	}
	return func(name string) bool {
		for _, re := range made {
			if re.MatchString(name) {
				return true
			}
		}
		return false
	}
}

// Each edge is a tenant of its own, writes over TLS with a password, and its limits are
// those of the chart's values.
func TestEdge(t *testing.T) {
	tenants := map[string]bool{}
	for _, name := range glob(t, "edge/prometheus-edge-*.yml") {
		var cfg config.Config
		content, err := os.ReadFile(name)
		require.NoError(t, err)
		require.NoError(t, yaml.Unmarshal(content, &cfg))
		require.Len(t, cfg.RemoteWriteConfigs, 1)
		rw := cfg.RemoteWriteConfigs[0]
		require.Equal(t, "https", rw.URL.Scheme)
		require.Equal(t, cfg.GlobalConfig.ExternalLabels.Get("cluster"), rw.Headers["THANOS-TENANT"])
		tenants[rw.Headers["THANOS-TENANT"]] = true
	}
	require.Len(t, tenants, 3)
	content, err := os.ReadFile("edge/limits.yml")
	require.NoError(t, err)
	limits, err := tenantlimits.Parse(content)
	require.NoError(t, err)
	require.EqualValues(t, 2_000_000, limits.For("edge-oslo").ActiveSeries)
	var file, values map[string]any
	strict(t, "edge/limits.yml", &file)
	strict(t, "edge/values.yaml", &values)
	require.Equal(t, file, values["receive"].(map[string]any)["limits"])
}

// Each service of the compose file has flags that exist, and finds the others and its
// files.
func TestEdge_Compose(t *testing.T) {
	type service struct {
		Image, Hostname string
		Command         []string
		Volumes, Ports  []string
		Restart         string
		StopGracePeriod string `yaml:"stop_grace_period"`
	}
	var compose struct {
		Receive  service `yaml:"x-receive"`
		Services map[string]service
		Volumes  map[string]any
	}
	strict(t, "edge/docker-compose.yml", &compose)
	require.Len(t, compose.Services, 6)
	host := regexp.MustCompile(`^--(?:endpoint|receive\.members)=([^:]+):10901$`)
	for name, s := range compose.Services {
		require.Equal(t, "hindsight", s.Image, name)
		requireFlags(t, s.Command)
		mounted := map[string]bool{}
		for _, v := range s.Volumes {
			from, to, _ := strings.Cut(v, ":")
			if strings.HasPrefix(from, "./") {
				_, err := os.Stat(filepath.Join("edge", from))
				require.NoError(t, err)
			} else {
				require.Contains(t, compose.Volumes, from)
			}
			mounted[strings.TrimSuffix(to, ":ro")] = true
		}
		for _, a := range s.Command[1:] {
			if m := host.FindStringSubmatch(a); m != nil {
				require.Contains(t, compose.Services, m[1], "%s: %s", name, a)
			}
			if _, path, ok := strings.Cut(a, "-file="); ok {
				require.True(t, mounted[path], "%s mounts no %s", name, path)
			}
		}
	}
}

// The files of Grafana have its keys, and the dashboards use the data source.
func TestGrafana(t *testing.T) {
	var sources struct {
		APIVersion  int `yaml:"apiVersion"`
		Datasources []struct {
			Name, UID, Type, Access, URL string
			IsDefault                    bool           `yaml:"isDefault"`
			JSONData                     map[string]any `yaml:"jsonData"`
		}
	}
	strict(t, "grafana/datasources/hindsight.yml", &sources)
	require.Equal(t, 1, sources.APIVersion)
	require.Equal(t, "prometheus", sources.Datasources[0].Type)
	u, err := url.Parse(sources.Datasources[0].URL)
	require.NoError(t, err)
	require.Equal(t, "hindsight-query.monitoring:9090", u.Host, "the service of the chart")
	var dashboards struct {
		APIVersion int `yaml:"apiVersion"`
		Providers  []struct {
			Name, Folder, Type    string
			UpdateIntervalSeconds int  `yaml:"updateIntervalSeconds"`
			AllowUIUpdates        bool `yaml:"allowUiUpdates"`
			Options               struct{ Path string }
		}
	}
	strict(t, "grafana/dashboards/hindsight.yml", &dashboards)
	require.Equal(t, "file", dashboards.Providers[0].Type)
	uids := map[string]bool{}
	for _, name := range glob(t, "../mixin/dashboards/*.json") {
		content, err := os.ReadFile(name)
		require.NoError(t, err)
		var d struct {
			UID, Title string
			Templating struct {
				List []struct{ Type, Query string }
			}
		}
		require.NoError(t, json.Unmarshal(content, &d))
		require.NotEmpty(t, d.Title)
		require.False(t, uids[d.UID], "%s: the uid %q is taken", name, d.UID)
		uids[d.UID] = true
		chosen := false
		for _, v := range d.Templating.List {
			chosen = chosen || v.Type == "datasource" && v.Query == sources.Datasources[0].Type
		}
		require.True(t, chosen, "%s has no variable for the data source", name)
	}
}

// The Deployment of queriers has flags that exist, and finds the service of the sidecars
// of the example beside it.
func TestKubernetesQuery(t *testing.T) {
	content, err := os.ReadFile("kubernetes/query.yaml")
	require.NoError(t, err)
	operator, err := os.ReadFile("kubernetes/prometheus-operator.yaml")
	require.NoError(t, err)
	n := 0
	for dec := yaml.NewDecoder(bytes.NewReader(content)); ; n++ {
		var doc manifest
		if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
			break
		} else {
			require.NoError(t, err)
		}
		if doc.Kind == "Deployment" {
			args := doc.Spec.Template.Spec.Containers[0].Args
			requireFlags(t, args)
			require.Contains(t, strings.Join(args, " "), "dnssrv+_grpc._tcp.prometheus-sidecars.monitoring.svc")
			require.Contains(t, string(operator), "name: prometheus-sidecars\n")
		}
	}
	require.Equal(t, 2, n)
}

// The configuration of Prometheus in the values for its chart is valid, and writes to the
// service of receive.
func TestKubernetesKind(t *testing.T) {
	var prom struct {
		Server struct {
			Global      map[string]any
			RemoteWrite []map[string]any `yaml:"remoteWrite"`
		}
		ServerFiles map[string]any `yaml:"serverFiles"`
	}
	strict(t, "kubernetes/kind/prometheus-values.yaml", &prom)
	text, err := yaml.Marshal(map[string]any{"global": prom.Server.Global, "remote_write": prom.Server.RemoteWrite})
	require.NoError(t, err)
	var cfg config.Config
	require.NoError(t, yaml.Unmarshal(text, &cfg))
	require.Equal(t, "http://hindsight-receive-write.monitoring:19291/api/v1/push", cfg.RemoteWriteConfigs[0].URL.String())
	for name, groups := range prom.ServerFiles {
		text, err := yaml.Marshal(groups)
		require.NoError(t, err)
		_, errs := rulefmt.Parse(text, false, model.UTF8Validation, parser.NewParser(parser.Options{}), slog.New(slog.DiscardHandler))
		require.Empty(t, errs, name)
	}
	tenant := cfg.RemoteWriteConfigs[0].Headers["X-Scope-OrgID"]
	grafana, err := os.ReadFile("kubernetes/kind/grafana-values.yaml")
	require.NoError(t, err)
	require.Contains(t, string(grafana), "httpHeaderValue1: "+tenant)
	require.Contains(t, string(grafana), "url: http://hindsight-query.monitoring:9090")
}
