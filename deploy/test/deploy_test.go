// Package deploy renders the Helm chart and the kustomizations as their tools do, and
// checks the objects with the types of the Kubernetes API. It has a module of its own, so
// that no other package links these tools.
package deploy

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write deploy/kustomize/base")

// object is the part of an object that all kinds have.
type object struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name, Namespace string
		Labels          map[string]string
	} `json:"metadata"`
	raw []byte
}

func (o object) id() string { return o.Kind + "/" + o.Metadata.Name }

// render renders the chart with a file of values, or with its defaults.
func render(t *testing.T, values string) map[string]string {
	t.Helper()
	chart, err := loader.Load("../chart/hindsight")
	require.NoError(t, err)
	given := map[string]any{}
	if values != "" {
		content, err := os.ReadFile(values)
		require.NoError(t, err)
		require.NoError(t, yaml.UnmarshalStrict(content, &given))
	}
	all, err := chartutil.ToRenderValues(chart, given, chartutil.ReleaseOptions{Name: "hindsight", Namespace: "monitoring"}, chartutil.DefaultCapabilities)
	require.NoError(t, err)
	out, err := engine.Render(chart, all)
	require.NoError(t, err)
	return out
}

var separator = regexp.MustCompile(`(?m)^---\s*$`)

// objects splits rendered files.
func objects(t *testing.T, text string) []object {
	t.Helper()
	var out []object
	for _, doc := range separator.Split(text, -1) {
		o := object{raw: []byte(doc)}
		require.NoError(t, yaml.Unmarshal(o.raw, &o), doc)
		if o.Kind != "" {
			out = append(out, o)
		}
	}
	return out
}

// types returns a new object of each type by apiVersion and kind.
func types() map[string]any {
	return map[string]any{
		"v1 Service":                                  new(corev1.Service),
		"v1 ConfigMap":                                new(corev1.ConfigMap),
		"v1 Secret":                                   new(corev1.Secret),
		"v1 ServiceAccount":                           new(corev1.ServiceAccount),
		"policy/v1 PodDisruptionBudget":               new(policyv1.PodDisruptionBudget),
		"autoscaling/v2 HorizontalPodAutoscaler":      new(autoscalingv2.HorizontalPodAutoscaler),
		"networking.k8s.io/v1 NetworkPolicy":          new(networkingv1.NetworkPolicy),
		"apps/v1 Deployment":                          new(appsv1.Deployment),
		"apps/v1 StatefulSet":                         new(appsv1.StatefulSet),
		"rbac.authorization.k8s.io/v1 Role":           new(rbacv1.Role),
		"rbac.authorization.k8s.io/v1 RoleBinding":    new(rbacv1.RoleBinding),
		"monitoring.coreos.com/v1 ServiceMonitor":     new(serviceMonitor),
		"monitoring.coreos.com/v1 PrometheusRule":     new(prometheusRule),
		"keda.sh/v1alpha1 ScaledObject":               new(scaledObject),
		"autoscaling.k8s.io/v1 VerticalPodAutoscaler": new(verticalPodAutoscaler),
	}
}

// decode decodes an object into its type; unknown fields are errors.
func decode(t *testing.T, o object) any {
	t.Helper()
	v := types()[o.APIVersion+" "+o.Kind]
	require.NotNil(t, v, "%s has the unknown type %s", o.id(), o.APIVersion)
	require.NoError(t, yaml.UnmarshalStrict(o.raw, v), "%s:\n%s", o.id(), o.raw)
	return v
}

// check validates one object.
func check(t *testing.T, o object) {
	t.Helper()
	require.Equal(t, "monitoring", o.Metadata.Namespace, o.id())
	require.NotEmpty(t, o.Metadata.Name)
	switch v := decode(t, o).(type) {
	case *appsv1.Deployment:
		checkPod(t, o, v.Spec.Template, v.Spec.Selector.MatchLabels)
	case *appsv1.StatefulSet:
		checkPod(t, o, v.Spec.Template, v.Spec.Selector.MatchLabels)
	}
}

// checkPod checks flags, selectors, mounts, security and the time to stop.
func checkPod(t *testing.T, o object, pod corev1.PodTemplateSpec, selector map[string]string) {
	t.Helper()
	for k, v := range selector {
		require.Equal(t, v, pod.Labels[k], "%s: the selector does not match its pods", o.id())
	}
	require.Len(t, pod.Spec.Containers, 1)
	c := pod.Spec.Containers[0]
	checkFlags(t, o, c.Args)
	require.True(t, *pod.Spec.SecurityContext.RunAsNonRoot)
	require.True(t, *c.SecurityContext.ReadOnlyRootFilesystem)
	require.NotEmpty(t, c.Resources.Limits.Memory().String())
	var grace time.Duration
	for _, a := range c.Args {
		if name, value, _ := strings.Cut(a, "="); strings.HasSuffix(name, "-grace-period") {
			d, err := time.ParseDuration(value)
			require.NoError(t, err)
			grace += d
		}
	}
	require.Positive(t, grace)
	if c.Args[0] == "receive" {
		// A pod that is scaled down ships its data before, within the bounds of
		// PrepareStop in pkg/receive.
		grace += 8*time.Minute + time.Minute
	}
	require.Greater(t, *pod.Spec.TerminationGracePeriodSeconds, int64(grace.Seconds())+10, "%s is killed before it has drained", o.id())
	ports := map[string]bool{}
	for _, p := range c.Ports {
		ports[p.Name] = true
	}
	require.True(t, ports["http"])
	require.Equal(t, "http", c.ReadinessProbe.HTTPGet.Port.StrVal)
	have := map[string]bool{"data": o.Kind == "StatefulSet"}
	for _, v := range pod.Spec.Volumes {
		have[v.Name] = true
	}
	for _, m := range c.VolumeMounts {
		require.True(t, have[m.Name], "%s mounts %s, which is no volume", o.id(), m.Name)
	}
}

// knownFlags returns the flags of a role. docs/flags is made from the program.
func knownFlags(t *testing.T, role string) map[string]bool {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("../../docs/flags", role+".md"))
	require.NoError(t, err)
	out := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `--(?:\\[no-\\])?([^`]+)`").FindAllSubmatch(content, -1) {
		out[string(m[1])] = true
	}
	require.Greater(t, len(out), 20)
	return out
}

func checkFlags(t *testing.T, o object, args []string) {
	t.Helper()
	known := knownFlags(t, args[0])
	for _, a := range args[1:] {
		name, _, _ := strings.Cut(strings.TrimPrefix(a, "--"), "=")
		require.True(t, known[name], "%s: hindsight %s has no flag --%s", o.id(), args[0], name)
	}
}

// valueSets returns the files of values that are rendered, and the defaults.
func valueSets(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("../values/*.yaml")
	require.NoError(t, err)
	require.Len(t, files, 5)
	return append(files, "")
}

func TestChart_RendersValidObjects(t *testing.T) {
	kinds := map[string]bool{}
	examples := []string{"../../examples/edge/values.yaml", "../../examples/kubernetes/kind/hindsight-values.yaml"}
	for _, values := range append(examples, valueSets(t)...) {
		t.Run("values="+filepath.Base(values), func(t *testing.T) {
			seen, n := map[string]bool{}, 0
			for name, text := range render(t, values) {
				if !strings.HasSuffix(name, ".yaml") {
					continue
				}
				for _, o := range objects(t, text) {
					check(t, o)
					require.False(t, seen[o.id()], "%s exists twice", o.id())
					seen[o.id()], kinds[o.Kind] = true, true
					n++
				}
			}
			require.Greater(t, n, 3)
		})
	}
	require.Len(t, kinds, 15, "some kinds are rendered by no set of values: %v", kinds)
}

// Every value of the chart is used by a template, and described by a comment in its
// file or by its name alone.
func TestChart_UsesEachValue(t *testing.T) {
	content, err := os.ReadFile("../chart/hindsight/values.yaml")
	require.NoError(t, err)
	var values map[string]any
	require.NoError(t, yaml.UnmarshalStrict(content, &values))
	files, err := filepath.Glob("../chart/hindsight/templates/*")
	require.NoError(t, err)
	var templates strings.Builder
	for _, f := range files {
		b, err := os.ReadFile(f)
		require.NoError(t, err)
		templates.Write(b)
	}
	whole := []string{"podSecurityContext", "containerSecurityContext", "resources", "pdb", "selector", "config", "labels"}
	var walk func(path string, v any)
	walk = func(path string, v any) {
		name := path[strings.LastIndex(path, ".")+1:]
		m, ok := v.(map[string]any)
		if !ok || len(m) == 0 || slices.Contains(whole, name) {
			require.True(t, strings.Contains(templates.String(), "."+name), "no template uses the value %s", path)
			return
		}
		for _, k := range slices.Sorted(maps.Keys(m)) {
			walk(path+"."+k, m[k])
		}
	}
	walk("", values)
}

// The base of the kustomizations is the chart with its default values.
func TestKustomize_BaseIsTheChart(t *testing.T) {
	files := map[string]string{}
	for name, text := range render(t, "") {
		if strings.HasSuffix(name, ".yaml") && strings.TrimSpace(text) != "" {
			var b bytes.Buffer
			fmt.Fprintln(&b, "# Made from deploy/chart: cd deploy/test && go test . -update")
			for _, o := range objects(t, text) {
				b.WriteString("---\n" + strings.TrimSpace(string(o.raw)) + "\n")
			}
			files[filepath.Base(name)] = strings.ReplaceAll(b.String(), "app.kubernetes.io/managed-by: Helm", "app.kubernetes.io/managed-by: kustomize")
		}
	}
	require.NotEmpty(t, files)
	for name, want := range files {
		path := filepath.Join("../kustomize/base", name)
		if *update {
			require.NoError(t, os.WriteFile(path, []byte(want), 0o644))
			continue
		}
		got, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, want, string(got), "%s is stale: cd deploy/test && go test . -update", path)
	}
}

// kustomize builds each directory with a kustomization.
func TestKustomize_BuildsValidObjects(t *testing.T) {
	dirs, err := filepath.Glob("../kustomize/*/kustomization.yaml")
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(dirs), 2)
	for _, file := range dirs {
		result, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), filepath.Dir(file))
		require.NoError(t, err, file)
		text, err := result.AsYaml()
		require.NoError(t, err)
		list := objects(t, string(text))
		require.Greater(t, len(list), 10)
		for _, o := range list {
			check(t, o)
		}
	}
}

// The patch of a pod of Prometheus has flags that exist, and its own port, probe and
// volumes.
func TestSidecarPatch_IsValid(t *testing.T) {
	content, err := os.ReadFile("../sidecar/patch.yaml")
	require.NoError(t, err)
	list := objects(t, string(content))
	require.Len(t, list, 1)
	s, ok := decode(t, list[0]).(*appsv1.StatefulSet)
	require.True(t, ok)
	require.Len(t, s.Spec.Template.Spec.Containers, 1)
	checkFlags(t, list[0], s.Spec.Template.Spec.Containers[0].Args)
}

// The objects of operators, as far as the chart makes them.
type (
	meta struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Metadata   struct {
			Name, Namespace string
			Labels          map[string]string
		} `json:"metadata"`
	}
	serviceMonitor struct {
		meta `json:",inline"`
		Spec struct {
			Selector  struct{ MatchLabels map[string]string }
			Endpoints []struct{ Port, Interval string }
		} `json:"spec"`
	}
	prometheusRule struct {
		meta `json:",inline"`
		Spec struct {
			Groups []struct {
				Name  string
				Rules []struct {
					Alert, Record, Expr, For string
					Labels, Annotations      map[string]string
				}
			}
		} `json:"spec"`
	}
	scaledObject struct {
		meta `json:",inline"`
		Spec struct {
			ScaleTargetRef                                   struct{ Kind, Name string }
			MinReplicaCount, MaxReplicaCount, CooldownPeriod int
			Triggers                                         []struct {
				Type, MetricType string
				Metadata         map[string]string
			}
		} `json:"spec"`
	}
	verticalPodAutoscaler struct {
		meta `json:",inline"`
		Spec struct {
			TargetRef    struct{ APIVersion, Kind, Name string }
			UpdatePolicy struct{ UpdateMode string }
		} `json:"spec"`
	}
)
