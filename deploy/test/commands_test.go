package deploy

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// commandsOf returns the commands of the blocks of a page.
func commandsOf(t *testing.T, page string) (out []string) {
	content, err := os.ReadFile(page)
	require.NoError(t, err)
	for _, block := range regexp.MustCompile("(?ms)^```text\n(.*?)^```$").FindAllSubmatch(content, -1) {
		for line := range strings.Lines(string(block[1])) {
			out = append(out, strings.TrimSpace(line))
		}
	}
	return out
}

// Each command of the page names files, values and objects that exist: the charts of
// others and the cluster are not there to run it.
func TestKubernetesPage_CommandsNameWhatExists(t *testing.T) {
	objs := map[string]bool{}
	for _, text := range render(t, "../../examples/kubernetes/kind/hindsight-values.yaml") {
		if !strings.Contains(text, "apiVersion:") {
			continue
		}
		for _, o := range objects(t, text) {
			objs[strings.ToLower(o.id())] = true
		}
	}
	seaweed, err := os.ReadFile("../../examples/kubernetes/kind/seaweedfs.yaml")
	require.NoError(t, err)
	for _, o := range objects(t, string(seaweed)) {
		objs[strings.ToLower(o.id())] = true
	}
	objs["service/grafana"] = true // of another chart
	for i := range 3 {
		objs["pod/hindsight-receive-"+string(rune('0'+i))] = true
	}
	values := map[string]bool{}
	for _, v := range readValues(t) {
		values[v.path] = true
	}
	short := strings.NewReplacer("svc/", "service/")
	object := regexp.MustCompile(`^(svc|statefulset|deployment|pod)/[a-z0-9-]+$`)
	checked := 0
	for _, command := range commandsOf(t, "../../docs/kubernetes.md") {
		fields := strings.Fields(command)
		require.Contains(t, []string{"kind", "make", "docker", "kubectl", "helm"}, fields[0], command)
		if fields[0] == "kubectl" && !strings.Contains(command, " -f ") && !strings.Contains(command, "create namespace") {
			require.Equal(t, []string{"-n", "monitoring"}, fields[1:3], command)
		}
		for i, f := range fields {
			switch {
			case (f == "-f" || f == "-k") && i+1 < len(fields):
				_, err := os.Stat(filepath.Join("../..", fields[i+1]))
				require.NoError(t, err, command)
			case f == "--set":
				key, _, _ := strings.Cut(fields[i+1], "=")
				require.True(t, values[key], "%s: the chart has no value %s", command, key)
			case strings.HasPrefix(f, "--from-file="):
				_, path, _ := strings.Cut(strings.TrimPrefix(f, "--from-file="), "=")
				_, err := os.Stat(filepath.Join("../..", path))
				require.NoError(t, err, command)
			case strings.HasPrefix(f, "deploy/"):
				_, err := os.Stat(filepath.Join("../..", f))
				require.NoError(t, err, command)
			case object.MatchString(f):
				require.True(t, objs[short.Replace(f)], "%s: there is no %s", command, f)
			default:
				continue
			}
			checked++
		}
	}
	require.GreaterOrEqual(t, checked, 19)
}
