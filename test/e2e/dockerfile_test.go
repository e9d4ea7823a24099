package e2e

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/test/e2e/harness"
)

// There is no container engine here: the test runs the build command of the
// Dockerfile and reads the rest of the file.
func TestDockerfile_BuildsAStaticBinaryForAnUnprivilegedUser(t *testing.T) {
	root, err := harness.Root()
	require.NoError(t, err)
	b, err := os.ReadFile(filepath.Join(root, "Dockerfile"))
	require.NoError(t, err)
	text := string(b)
	require.Regexp(t, `(?m)^FROM golang:1\.26 AS build$`, text)
	require.Regexp(t, `(?m)^USER [1-9][0-9]*:[1-9][0-9]*$`, text)
	require.Regexp(t, `(?m)^ENTRYPOINT \["/usr/local/bin/hindsight"\]$`, text)
	require.Regexp(t, `(?m)^EXPOSE 10902 10901 19291 19391$`, text)
	for _, dir := range regexp.MustCompile(`(?m)^COPY (\w+) \./\w+$`).FindAllStringSubmatch(text, -1) {
		require.DirExists(t, filepath.Join(root, dir[1]))
	}

	pgo := regexp.MustCompile(`(?m)^ARG PGO=(.*)$`).FindStringSubmatch(text)
	require.NotNil(t, pgo, "no profile for the compiler")
	require.FileExists(t, filepath.Join(root, pgo[1]))

	build := regexp.MustCompile(`(?m)^RUN (.*go build.*)$`).FindStringSubmatch(text)
	require.NotNil(t, build, "no build command")
	binary := filepath.Join(t.TempDir(), "hindsight")
	require.Contains(t, build[1], "/out/hindsight")
	cmd := exec.CommandContext(t.Context(), "bash", "-c", strings.ReplaceAll(build[1], "/out/hindsight", binary))
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "VERSION=v1.2.3", "REVISION=abc", "PGO=off") // with the profile all packages are compiled again
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)

	f, err := elf.Open(binary)
	require.NoError(t, err)
	defer f.Close()
	for _, p := range f.Progs {
		require.NotEqual(t, elf.PT_INTERP, p.Type, "the binary needs a loader, and the image has none")
	}
	libs, err := f.ImportedLibraries()
	require.NoError(t, err)
	require.Empty(t, libs)
	out, err = exec.CommandContext(t.Context(), binary, "--version").CombinedOutput()
	require.NoError(t, err)
	require.Contains(t, string(out), "v1.2.3")
}
