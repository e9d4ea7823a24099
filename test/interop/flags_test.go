package interop

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/test/e2e/harness"
)

// flagOf is a flag of a command as its help shows it.
type flagOf struct {
	value      string // default or placeholder; empty for a switch
	toggle     bool   // --[no-]name
	repeatable bool
}

// roles are the commands of both programs.
func roles() []string {
	return []string{
		"sidecar", "store", "query", "receive", "compact",
		"tools bucket verify", "tools bucket ls", "tools bucket inspect", "tools bucket web", "tools bucket replicate",
		"tools bucket downsample", "tools bucket cleanup", "tools bucket mark", "tools bucket rewrite", "tools bucket retention",
		"tools bucket upload-blocks", "tools rules-check",
	}
}

// Each flag of each command of Thanos is a flag here, of the same kind and with the same default,
// or docs/migrate-from-thanos.md names it.
func TestFlags_SameAsInThanos(t *testing.T) {
	s := newSite(t)
	root, err := harness.Root()
	require.NoError(t, err)
	guide, err := os.ReadFile(filepath.Join(root, "docs/migrate-from-thanos.md"))
	require.NoError(t, err)
	for _, role := range roles() {
		command := append(strings.Fields(role), "--help")
		theirs, ours := flagsOf(s.help(thanos, command...)), flagsOf(s.help(hindsight, command...))
		require.Greater(t, len(theirs), 5, role)
		for _, name := range slices.Sorted(maps.Keys(theirs)) {
			want := theirs[name]
			got, ok := ours[name]
			if strings.Contains(string(guide), "`--"+name+"`") || strings.Contains(string(guide), "`--"+name+"=") {
				continue
			}
			switch {
			case !ok:
				// Those that --help does not show are accepted: a value is missing, or help comes.
				_, err := s.try(hindsight, append(command[:len(command)-1:len(command)-1], "--"+name)...)
				if err == nil || !strings.Contains(err.Error(), "expected argument") {
					t.Errorf("%s: no flag --%s (%s): %v", role, name, want.value, err)
				}
			case got.toggle != want.toggle:
				t.Errorf("%s: --%s is a switch: %v, in Thanos %v", role, name, got.toggle, want.toggle)
			case want.repeatable && !got.repeatable:
				t.Errorf("%s: --%s is repeatable in Thanos only", role, name)
			case !sameDefault(name, got.value, want.value):
				t.Errorf("%s: --%s=%s, in Thanos %s", role, name, got.value, want.value)
			}
		}
	}
}

// Each role starts with the defaults of Thanos spelled out, as generators of manifests do.
func TestFlags_DefaultsOfThanosAreAccepted(t *testing.T) {
	s := newSite(t)
	prom := s.prometheus("prometheus", "global: {external_labels: {cluster: eu}}")
	bucket := s.bucket("bucket")
	own := map[string][]string{
		"query": nil, "store": {bucket, "--data-dir=" + s.mkdir("store")},
		"receive": {bucket, "--tsdb.path=" + s.mkdir("receive"), `--label=replica="a"`},
		"sidecar": {bucket, "--tsdb.path=" + s.path("prometheus"), "--prometheus.url=" + prom.url()},
		"compact": {bucket, "--data-dir=" + s.mkdir("compact"), "--wait"},
	}
	for _, role := range slices.Sorted(maps.Keys(own)) {
		args := own[role]
		given := strings.Join(args, " ") + " --http-address= --grpc-address= --remote-write.address= --receive.capnproto-address="
		theirs := flagsOf(s.help(thanos, role, "--help"))
		for _, name := range slices.Sorted(maps.Keys(theirs)) {
			f := theirs[name]
			switch {
			case strings.Contains(given, "--"+name+"=") || strings.Contains(given, "--"+name+" "):
			case f.toggle && name != "wait":
				args = append(args, "--no-"+name)
			case !f.toggle && f.value != strings.ToUpper(name) && !strings.ContainsAny(f.value, `<>"`) && f.value != "":
				args = append(args, "--"+name+"="+strings.TrimSuffix(f.value, "..."))
			}
		}
		n := s.run(hindsight, role, role, args...)
		require.Greater(t, len(args), 15, role)
		s.stop(n)
	}
}

// help returns the help of a command.
func (s *site) help(p program, args ...string) string {
	s.Helper()
	// Either stream, which differs between versions of the parser of flags.
	out, err := exec.Command(p.path(), args...).CombinedOutput()
	require.NoError(s, err, "%s", out)
	return string(out)
}

// flagsOf reads the flags of a help text.
func flagsOf(help string) map[string]flagOf {
	line := regexp.MustCompile(`(?m)^  (?:-., |    )--(\[no-\])?([a-zA-Z0-9._-]+)(=("[^"\n]*"|<[^>\n]*>|\S+))?( \.\.\.)?`)
	out := map[string]flagOf{}
	for _, m := range line.FindAllStringSubmatch(help, -1) {
		if m[2] != "help" && m[2] != "version" && m[2] != "help-long" && m[2] != "help-man" {
			out[m[2]] = flagOf{toggle: m[1] != "", value: strings.Trim(m[4], `"`), repeatable: m[5] != ""}
		}
	}
	return out
}

// sameDefault compares two defaults; a placeholder, which is the name in capitals or in brackets,
// is no default.
func sameDefault(name, a, b string) bool {
	plain := func(v string) string {
		if v == strings.ToUpper(name) || strings.HasPrefix(v, "<") {
			return ""
		}
		return strings.TrimSuffix(strings.TrimSuffix(v, "0s"), "0s")
	}
	return plain(a) == plain(b)
}
