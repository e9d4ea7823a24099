package deploy

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	yamlv3 "go.yaml.in/yaml/v3"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// value is a value of the chart, or a map that is given as a whole.
type value struct{ path, def, meaning string }

// readValues reads the values of the chart with the comments above them. A key without a
// comment has that of the same key of the roles query or receive.
func readValues(t *testing.T) (out []value) {
	content, err := os.ReadFile("../chart/hindsight/values.yaml")
	require.NoError(t, err)
	var doc yamlv3.Node
	require.NoError(t, yamlv3.Unmarshal(content, &doc))
	comments := map[string]string{}
	var walk func(prefix string, n *yamlv3.Node)
	walk = func(prefix string, n *yamlv3.Node) {
		for i := 0; i < len(n.Content); i += 2 {
			key, v := n.Content[i], n.Content[i+1]
			path := prefix + key.Value
			comment := strings.Join(strings.Fields(strings.ReplaceAll(key.HeadComment, "#", "")), " ")
			if comment == "" {
				_, rest, _ := strings.Cut(path, ".")
				comment = cmp.Or(comments["query."+rest], comments["receive."+rest])
			}
			comments[path] = comment
			if v.Kind == yamlv3.MappingNode && len(v.Content) > 0 && comment == "" {
				walk(path+".", v)
				continue
			}
			var def any
			require.NoError(t, v.Decode(&def))
			text, err := json.Marshal(def)
			require.NoError(t, err)
			out = append(out, value{path, string(text), comment})
		}
	}
	walk("", doc.Content[0])
	return out
}

// Each value has a comment, and deploy/values.md is made from it.
func TestValues_AreDocumented(t *testing.T) {
	var b strings.Builder
	b.WriteString("# Which values does the chart have?\n\nMade from [values.yaml](chart/hindsight/values.yaml): `cd deploy/test && go test . -update`. Defaults are JSON.\n\n" +
		"| value | default | meaning |\n|---|---|---|\n")
	for _, v := range readValues(t) {
		require.NotEmpty(t, v.meaning, "the value %s has no comment, nor has the same value of query", v.path)
		fmt.Fprintf(&b, "| `%s` | `%s` | %s |\n", v.path, v.def, v.meaning)
	}
	if *update {
		require.NoError(t, os.WriteFile("../values.md", []byte(b.String()), 0o644))
		return
	}
	got, err := os.ReadFile("../values.md")
	require.NoError(t, err)
	require.Equal(t, b.String(), string(got), "deploy/values.md is stale: cd deploy/test && go test . -update")
}

// rendered returns the objects of all sets of values.
func rendered(t *testing.T) (out []object) {
	for _, values := range valueSets(t) {
		for name, text := range render(t, values) {
			if strings.HasSuffix(name, ".yaml") {
				out = append(out, objects(t, text)...)
			}
		}
	}
	return out
}

// The metrics by which roles are scaled exist, and belong to the role that is scaled.
func TestScaling_UsesMetricsThatExist(t *testing.T) {
	page, err := os.ReadFile("../../docs/metrics.md")
	require.NoError(t, err)
	sections := map[string]string{}
	for _, s := range strings.Split(string(page), "\n## ")[1:] {
		role, rest, _ := strings.Cut(s, "\n")
		sections[role] = rest
	}
	name := regexp.MustCompile(`\b(hindsight|prometheus)_[a-z_]+`)
	used := map[string]bool{}
	for _, o := range rendered(t) {
		var text string
		switch v := decode(t, o).(type) {
		case *autoscalingv2.HorizontalPodAutoscaler:
			for _, m := range v.Spec.Metrics {
				if m.Pods != nil {
					text += m.Pods.Metric.Name + " "
				}
			}
		case *scaledObject:
			for _, tr := range v.Spec.Triggers {
				text += tr.Metadata["query"] + " "
			}
		}
		role := o.Metadata.Labels["app.kubernetes.io/component"]
		for _, metric := range name.FindAllString(text, -1) {
			used[metric] = true
			if metric == "prometheus_tsdb_head_series" { // of Prometheus's library, which the page does not list
				require.Equal(t, "receive", role)
				continue
			}
			base := regexp.MustCompile(`_(sum|count|bucket)$`).ReplaceAllString(metric, "")
			require.Contains(t, sections[role], "| `"+base+"` |", "%s scales by %s, which hindsight %s does not export", o.id(), metric, role)
		}
	}
	require.GreaterOrEqual(t, len(used), 5, "%v", used)
}

// The pods of receive may read exactly what the discovery of members reads, and have
// the token only when they do.
func TestReceive_RightsOfDiscovery(t *testing.T) {
	modes := map[string]bool{}
	for _, values := range valueSets(t) {
		var role *rbacv1.Role
		var set *appsv1.StatefulSet
		for _, o := range objects(t, render(t, values)["hindsight/templates/receive.yaml"]) {
			switch v := decode(t, o).(type) {
			case *rbacv1.Role:
				role = v
			case *appsv1.StatefulSet:
				set = v
			}
		}
		if set == nil {
			continue
		}
		var members, mounts string
		for _, a := range set.Spec.Template.Spec.Containers[0].Args {
			if v, ok := strings.CutPrefix(a, "--receive.members="); ok {
				members, _, _ = strings.Cut(v, "+")
			}
		}
		for _, m := range set.Spec.Template.Spec.Containers[0].VolumeMounts {
			mounts += " " + m.MountPath
		}
		modes[members] = true
		require.False(t, *set.Spec.Template.Spec.AutomountServiceAccountToken)
		if members != "k8s" {
			require.Nil(t, role, values)
			require.NotContains(t, mounts, "serviceaccount")
			continue
		}
		require.Contains(t, mounts, "/var/run/secrets/kubernetes.io/serviceaccount")
		require.Equal(t, []rbacv1.PolicyRule{
			{APIGroups: []string{"discovery.k8s.io"}, Resources: []string{"endpointslices"}, Verbs: []string{"get", "list", "watch"}},
			{APIGroups: []string{"apps"}, Resources: []string{"statefulsets"}, ResourceNames: []string{set.Name}, Verbs: []string{"get"}},
		}, role.Rules)
	}
	require.Equal(t, map[string]bool{"k8s": true, "dnssrv": true, "": true}, modes)
}

// The rules of the chart are those of the mixin, and so are the dashboards.
func TestChart_HasTheMixin(t *testing.T) {
	dashboards, groups := 0, map[string]bool{}
	for _, o := range objects(t, render(t, "../values/scaled.yaml")["hindsight/templates/common.yaml"]) {
		switch v := decode(t, o).(type) {
		case *prometheusRule:
			for _, g := range v.Spec.Groups {
				groups[g.Name] = true
				require.NotEmpty(t, g.Rules)
			}
		default:
			if o.Kind == "ConfigMap" && o.Metadata.Labels["grafana_dashboard"] == "1" {
				dashboards++
				var c struct{ Data map[string]string }
				require.NoError(t, yamlv3.Unmarshal(o.raw, &c))
				for name, text := range c.Data {
					want, err := os.ReadFile(filepath.Join("../../mixin/dashboards", name))
					require.NoError(t, err)
					require.Equal(t, strings.TrimSpace(string(want)), strings.TrimSpace(text))
				}
			}
		}
	}
	files, err := filepath.Glob("../../mixin/dashboards/*.json")
	require.NoError(t, err)
	require.Equal(t, len(files), dashboards)
	require.Contains(t, groups, "hindsight-records")
	require.Contains(t, groups, "hindsight-process")
}

// The patch adds the sidecar to a StatefulSet of Prometheus and changes nothing else.
func TestSidecarPatch_Applies(t *testing.T) {
	patch, err := os.ReadFile("../sidecar/patch.yaml")
	require.NoError(t, err)
	fs := filesys.MakeFsInMemory()
	for name, content := range map[string]string{
		"kustomization.yaml": "resources: [prometheus.yaml]\npatches: [{path: patch.yaml}]\n",
		"patch.yaml":         string(patch),
		"prometheus.yaml": `apiVersion: apps/v1
kind: StatefulSet
metadata: {name: prometheus}
spec:
  template:
    spec:
      containers:
        - {name: prometheus, image: prom/prometheus:v3, volumeMounts: [{name: data, mountPath: /prometheus}]}
  volumeClaimTemplates: [{metadata: {name: data}}]
`,
	} {
		require.NoError(t, fs.WriteFile(name, []byte(content)))
	}
	result, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(fs, ".")
	require.NoError(t, err)
	text, err := result.AsYaml()
	require.NoError(t, err)
	set, ok := decode(t, objects(t, string(text))[0]).(*appsv1.StatefulSet)
	require.True(t, ok)
	var names []string
	for _, c := range set.Spec.Template.Spec.Containers {
		names = append(names, c.Name)
	}
	require.ElementsMatch(t, []string{"prometheus", "hindsight-sidecar"}, names)
	require.Equal(t, "objstore", set.Spec.Template.Spec.Volumes[0].Name)
}

// The manifests of the examples are objects of the API in one namespace. Those of
// operators are left to the test of the examples.
func TestExamples_AreValidObjects(t *testing.T) {
	n := 0
	for _, pattern := range []string{"../../examples/kubernetes/*.yaml", "../../examples/kubernetes/kind/seaweedfs.yaml"} {
		files, err := filepath.Glob(pattern)
		require.NoError(t, err)
		for _, file := range files {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			for _, o := range objects(t, string(text)) {
				require.Equal(t, "monitoring", o.Metadata.Namespace, "%s: %s", file, o.id())
				if o.Kind != "Prometheus" {
					decode(t, o)
					n++
				}
			}
		}
	}
	require.Greater(t, n, 8)
}
