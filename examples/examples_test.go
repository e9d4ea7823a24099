// Package examples holds configurations; its test reads them as the programs do.
package examples

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/prometheus/config"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/hindsight-io/hindsight/pkg/bucket/provider"
	"github.com/hindsight-io/hindsight/pkg/flags"
	"github.com/hindsight-io/hindsight/pkg/receive"
	"github.com/hindsight-io/hindsight/pkg/receive/hashring"
	"github.com/hindsight-io/hindsight/pkg/receive/tenantlimits"
	"github.com/hindsight-io/hindsight/pkg/sidecar"
)

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	names, err := filepath.Glob(pattern)
	require.NoError(t, err)
	require.NotEmpty(t, names)
	return names
}

func TestPrometheusFiles(t *testing.T) {
	for _, name := range glob(t, "*/prometheus*.yml") {
		cfg, err := config.LoadFile(name, false, slog.New(slog.DiscardHandler))
		require.NoError(t, err, name)
		require.True(t, cfg.GlobalConfig.ExternalLabels.Has("cluster"), name)
		require.True(t, cfg.GlobalConfig.ExternalLabels.Has("replica"), name)
	}
}

// Each type of object storage has an example, whose keys are those of the provider.
func TestObjectStorageFiles(t *testing.T) {
	for _, name := range []string{
		"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "S3_ACCESS_KEY", "S3_SECRET_KEY", "OS_PASSWORD", "COS_SECRET_ID", "COS_SECRET_KEY",
		"OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET", "BOS_ACCESS_KEY", "BOS_SECRET_KEY", "OBS_ACCESS_KEY", "OBS_SECRET_KEY",
	} {
		t.Setenv(name, "test")
	}
	t.Setenv("AZURE_STORAGE_KEY", "dGVzdA==")
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", credentials(t))
	// Opening these asks a server: for a container, a token, or the metadata of the instance.
	asks := []string{"AZURE", "SWIFT", "OCI"}
	seen := map[string]bool{}
	for _, name := range append(glob(t, "objstore/*.yml"), "demo/objstore.yml") {
		content, err := os.ReadFile(name)
		require.NoError(t, err)
		content, err = flags.ExpandEnv(content)
		require.NoError(t, err, name)
		var top struct{ Type string }
		require.NoError(t, yaml.Unmarshal(content, &top))
		seen[top.Type] = true
		require.NoError(t, provider.CheckConfig(t.Context(), content), name)
		require.ErrorContains(t, provider.CheckConfig(t.Context(), bytes.Replace(content, []byte("config:\n"), []byte("config:\n  buckte: x\n"), 1)), "buckte", name)
		if slices.Contains(asks, top.Type) {
			continue
		}
		// The directory of the example is relative.
		content = bytes.ReplaceAll(content, []byte("./data"), []byte(t.TempDir()))
		b, err := provider.Open(t.Context(), content, slog.New(slog.DiscardHandler), nil)
		require.NoError(t, err, name)
		require.NoError(t, b.Close())
	}
	require.ElementsMatch(t, []string{"S3", "GCS", "AZURE", "SWIFT", "COS", "ALIYUNOSS", "BOS", "OCI", "OBS", "FILESYSTEM"}, slices.Collect(maps.Keys(seen)))
}

func TestHashringFiles(t *testing.T) {
	for _, name := range glob(t, "*/hashring*.json") {
		content, err := os.ReadFile(name)
		require.NoError(t, err)
		specs, err := hashring.Parse(content)
		require.NoError(t, err, name)
		_, err = hashring.New(specs, hashring.Options{Replicas: 3})
		require.NoError(t, err, name)
	}
}

func TestClusterRings(t *testing.T) {
	content, err := os.ReadFile("receive-cluster/hashring.json")
	require.NoError(t, err)
	specs, err := hashring.Parse(content)
	require.NoError(t, err)
	rings, err := hashring.New(specs, hashring.Options{Replicas: 3})
	require.NoError(t, err)
	for tenant, want := range map[string]int{"anybody": 6, "shop": 9, "trial-7": 3} {
		ring, err := rings.For(tenant)
		require.NoError(t, err)
		require.Len(t, ring.Endpoints(), want, tenant)
		for id := range ring.Sets() {
			zones := map[string]bool{}
			for _, n := range ring.Set(id) {
				zones[ring.Endpoints()[n].AZ] = true
			}
			require.Len(t, zones, 3, "each copy is in another zone")
		}
	}
}

// The flags of the StatefulSet exist, and each pod finds its endpoint in the ring.
func TestKubernetesReceive(t *testing.T) {
	content, err := os.ReadFile("kubernetes/receive.yaml")
	require.NoError(t, err)
	var specs []hashring.Spec
	pods := 0
	for dec := yaml.NewDecoder(bytes.NewReader(content)); ; {
		var doc manifest
		if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
			break
		} else {
			require.NoError(t, err)
		}
		switch doc.Kind {
		case "ConfigMap":
			specs, err = hashring.Parse([]byte(doc.Data["hashring.json"]))
			require.NoError(t, err)
		case "StatefulSet":
			pods = doc.Spec.Replicas
			args := doc.Spec.Template.Spec.Containers[0].Args
			require.Equal(t, "receive", args[0])
			var cfg receive.Config
			app := kingpin.New("receive", "")
			cfg.RegisterFlags(app)
			grpc := app.Flag("grpc-address", "").String()
			app.Flag("http-address", "").String()
			app.Flag("objstore.config-file", "").String()
			_, err := app.Parse(args[1:])
			require.NoError(t, err)
			require.NoError(t, cfg.Validate())
			_, err = hashring.New(specs, hashring.Options{Replicas: cfg.ReplicationFactor})
			require.NoError(t, err)
			for i, address := range hashring.Addresses(specs) {
				host := hashring.Host{Name: fmt.Sprintf("%s-%d", doc.Metadata.Name, i), Listen: *grpc, Write: cfg.RemoteWriteAddress}
				self, err := hashring.FindSelf(specs, host, nil)
				require.NoError(t, err)
				require.Equal(t, hashring.Self{Address: address}, self)
			}
		}
	}
	require.Equal(t, 3, pods)
	require.Len(t, hashring.Addresses(specs), pods)
}

// The sidecar of the operator's Prometheus accepts the arguments that the object adds to
// the operator's own, and the bucket of its secret.
func TestKubernetesOperator(t *testing.T) {
	content, err := os.ReadFile("kubernetes/prometheus-operator.yaml")
	require.NoError(t, err)
	kinds := map[string]int{}
	for dec := yaml.NewDecoder(bytes.NewReader(content)); ; {
		var doc struct {
			Kind       string
			StringData map[string]string `yaml:"stringData"`
			Spec       struct {
				ExternalLabels map[string]string `yaml:"externalLabels"`
				Thanos         struct {
					AdditionalArgs []struct{ Name, Value string } `yaml:"additionalArgs"`
					Storage        struct{ Name, Key string }     `yaml:"objectStorageConfig"`
				}
			}
		}
		if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
			break
		} else {
			require.NoError(t, err)
		}
		kinds[doc.Kind]++
		switch doc.Kind {
		case "Secret":
			b, err := provider.Open(t.Context(), []byte(doc.StringData["objstore.yml"]), slog.New(slog.DiscardHandler), nil)
			require.NoError(t, err)
			require.NoError(t, b.Close())
		case "Prometheus":
			require.NotEmpty(t, doc.Spec.ExternalLabels)
			require.Equal(t, "objstore.yml", doc.Spec.Thanos.Storage.Key)
			args := []string{"--prometheus.url=http://localhost:9090/", "--tsdb.path=/prometheus"}
			for _, a := range doc.Spec.Thanos.AdditionalArgs {
				args = append(args, "--"+a.Name+"="+a.Value)
			}
			var cfg sidecar.Config
			app := kingpin.New("sidecar", "")
			cfg.RegisterFlags(app)
			_, err := app.Parse(args)
			require.NoError(t, err)
			require.NoError(t, cfg.Validate())
		}
	}
	require.Equal(t, map[string]int{"Secret": 1, "Prometheus": 1, "Service": 1}, kinds)
}

// manifest holds the fields of a Kubernetes object that the test reads.
type manifest struct {
	Kind     string
	Metadata struct{ Name string }
	Data     map[string]string
	Spec     struct {
		Replicas int
		Template struct {
			Spec struct {
				Containers []struct{ Args []string }
			}
		}
	}
}

func TestLimitFiles(t *testing.T) {
	content, err := os.ReadFile("receive-cluster/limits.yml")
	require.NoError(t, err)
	cfg, err := tenantlimits.Parse(content)
	require.NoError(t, err)
	require.Equal(t, 64, cfg.MaxConcurrency)
	require.EqualValues(t, 1_000_000, cfg.For("anybody").ActiveSeries)
	require.EqualValues(t, 5_000_000, cfg.For("shop").ActiveSeries)
	require.Zero(t, cfg.For("shop").SamplesPerSecond)
	require.Equal(t, 60, cfg.For("shop").LabelNames)
}

// Links of the documents lead to files.
func TestLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^):#]+)\)`)
	for _, name := range append(glob(t, "*/README.md"), "README.md") {
		content, err := os.ReadFile(name)
		require.NoError(t, err)
		for _, m := range link.FindAllSubmatch(content, -1) {
			_, err := os.Stat(filepath.Join(filepath.Dir(name), string(m[1])))
			require.NoError(t, err, name)
		}
	}
}

// credentials writes a key of the form that Google hands out.
func credentials(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "key.json")
	content := `{"type": "authorized_user", "client_id": "x", "client_secret": "x", "refresh_token": "x"}`
	require.NoError(t, os.WriteFile(name, []byte(content), 0o600))
	return name
}
