package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alecthomas/kingpin/v2"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/flags"
)

var update = flag.Bool("update", false, "write docs/flags")

// The flag reference is generated from the flags themselves:
// go test ./cmd/hindsight -run FlagReference -update
func TestFlagReference(t *testing.T) {
	app := kingpin.New("hindsight", "")
	registerAll(app)
	dir := filepath.Join("..", "..", "docs", "flags")
	for _, cmd := range app.Model().Commands {
		if cmd.Name == "help" {
			continue
		}
		path := filepath.Join(dir, cmd.Name+".md")
		want := reference(cmd)
		if *update {
			require.NoError(t, os.MkdirAll(dir, 0o755))
			require.NoError(t, os.WriteFile(path, []byte(want), 0o644))
			continue
		}
		got, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, want, string(got), "docs/flags/%s.md is old: go test ./cmd/hindsight -run FlagReference -update", cmd.Name)
	}
}

// Inline configurations may have secrets, which /api/v1/status/flags must not show.
// Hashrings have addresses only.
func TestInlineConfigurations_AreRedacted(t *testing.T) {
	app := kingpin.New("hindsight", "")
	registerAll(app)
	var check func([]*kingpin.CmdModel) int
	check = func(commands []*kingpin.CmdModel) (n int) {
		for _, cmd := range commands {
			for _, f := range cmd.Flags {
				if f.PlaceHolder == "<content>" && f.Name != "receive.hashrings" {
					require.NotContains(t, flags.Redact(f.Name, "x"), "x", "%s --%s", cmd.Name, f.Name)
					n++
				}
			}
			n += check(cmd.Commands)
		}
		return n
	}
	require.Greater(t, check(app.Model().Commands), 10)
}

func reference(cmd *kingpin.CmdModel) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# hindsight %s\n\n%s\n\nThis page is made from the program's flags.\n", cmd.Name, cmd.Help)
	if len(cmd.Commands) == 0 {
		b.WriteString(flagTables(cmd))
		return b.String()
	}
	b.WriteString(subcommands(cmd.Name, cmd))
	return b.String()
}

// subcommands has a section for each command of a group, and of the groups in it.
func subcommands(name string, group *kingpin.CmdModel) string {
	var b strings.Builder
	for _, sub := range group.Commands {
		full := name + " " + sub.Name
		fmt.Fprintf(&b, "\n## hindsight %s\n\n%s\n", full, sub.Help)
		if len(sub.Commands) > 0 {
			b.WriteString(subcommands(full, sub))
			continue
		}
		b.WriteString(flagTables(sub))
	}
	return b.String()
}

func flagTables(cmd *kingpin.CmdModel) string {
	var b strings.Builder
	for _, hidden := range []bool{false, true} {
		if hidden {
			b.WriteString("\nFlags that `--help` does not show:\n")
		}
		b.WriteString("\n| flag | default | meaning |\n|---|---|---|\n")
		for _, f := range cmd.Flags {
			if f.Hidden != hidden || f.Name == "help" || strings.HasPrefix(f.Name, "help-") || strings.HasPrefix(f.Name, "completion-") || f.Name == "version" {
				continue
			}
			def := strings.Join(f.Default, " ")
			if def != "" {
				def = "`" + def + "`"
			}
			name := "--" + f.Name
			if f.IsBoolFlag() {
				name = "--[no-]" + f.Name
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", name, def, strings.ReplaceAll(f.Help, "|", `\|`))
		}
	}
	return b.String()
}
