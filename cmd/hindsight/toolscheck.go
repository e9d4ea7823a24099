package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/alecthomas/kingpin/v2"

	"github.com/hindsight-io/hindsight/pkg/flags"
	"github.com/hindsight-io/hindsight/pkg/telemetry"
)

// maxConfigFile bounds the size of a file that is checked.
const maxConfigFile = 16 << 20

// maxConfigFiles bounds the number of files of one run.
const maxConfigFiles = 10_000

// checkConfig holds the flags of tools check.
type checkConfig struct {
	telemetry telemetry.Config
	files     []string
	output    string
}

// checkRow is the result for one file.
type checkRow struct {
	File string `json:"file" yaml:"file"`
	// Kind is one of configKinds, empty if the file is like none.
	Kind string `json:"kind" yaml:"kind"`
	// Result is "ok", "invalid", "unknown" or "unreadable".
	Result  string `json:"result" yaml:"result"`
	Details string `json:"details" yaml:"details"`
}

// The results of a file.
const (
	checkOK         = "ok"
	checkInvalid    = "invalid"
	checkUnknown    = "unknown"
	checkUnreadable = "unreadable"
)

// checkCommand adds the command that checks configuration files.
func checkCommand(group *kingpin.CmdClause) command {
	cmd := group.Command("check", "Checks the configuration files of all roles with the parsers of the roles, and rule files with that of Prometheus. It opens no connection. Exit code 0: all are valid; 1: a file is invalid, or of no known kind; 2: a file could not be read.")
	var c checkConfig
	c.telemetry.RegisterFlags(cmd)
	cmd.Flag("output", "Form of the list: table, json or yaml.").Default(outputTable).EnumVar(&c.output, outputTable, outputJSON, outputYAML)
	cmd.Arg("file", "A file, a pattern such as conf/*.yml, or a directory, of which all .yml, .yaml and .json files are taken. The content shows the kind of a file; <kind>=<file> states it, and has to for files that choose blocks or stores: selector=<file>. The kinds are "+kindHelp()+".").
		Required().StringsVar(&c.files)
	return command{name: toolsGroup + " check", run: c.run}
}

// rulesCheckCommand adds the command that checks rule files, which Thanos has.
func rulesCheckCommand(group *kingpin.CmdClause) command {
	cmd := group.Command("rules-check", "Checks rule files with the parser of Prometheus. Exit code 0: all are valid; 1: one is not; 2: one could not be read.")
	var c checkConfig
	var globs []string
	c.telemetry.RegisterFlags(cmd)
	cmd.Flag("rules", "A rule file, or a pattern of files (repeatable).").Required().StringsVar(&globs)
	cmd.Flag("output", "Form of the list: table, json or yaml.").Default(outputTable).EnumVar(&c.output, outputTable, outputJSON, outputYAML)
	return command{name: toolsGroup + " rules-check", run: func(ctx context.Context, s streams) error {
		for _, g := range globs {
			c.files = append(c.files, "rules="+g)
		}
		return c.run(ctx, s)
	}}
}

// run checks each file and lists all of them.
func (c *checkConfig) run(ctx context.Context, s streams) error {
	kinds := configKinds()
	rows := []checkRow{}
	pr := newProgress(s)
	for _, arg := range c.files {
		kind, pattern := statedKind(kinds, arg)
		paths, err := configFiles(pattern)
		if err != nil {
			rows = append(rows, checkRow{File: pattern, Kind: kind, Result: checkUnreadable, Details: oneLine(err)})
		}
		for i, path := range paths {
			pr.show(i, len(paths), "files checked")
			rows = append(rows, checkFile(ctx, kinds, kind, path))
		}
		if len(rows) > maxConfigFiles {
			return flags.Invalid(fmt.Errorf("more than %d files to check: name fewer", maxConfigFiles))
		}
	}
	pr.end()
	r := report{list: rows, header: []string{"FILE", "KIND", "RESULT", "DETAILS"}}
	bad, unreadable := 0, 0
	for _, row := range rows {
		r.cells = append(r.cells, []string{row.File, row.Kind, row.Result, row.Details})
		switch row.Result {
		case checkInvalid, checkUnknown:
			bad++
		case checkUnreadable:
			unreadable++
		}
	}
	if err := r.print(s.out, c.output); err != nil {
		return err
	}
	switch {
	case unreadable > 0:
		return exitError{error: fmt.Errorf("files that could not be read: %d", unreadable), code: exitUsage}
	case bad > 0:
		return findings(bad)
	}
	return nil
}

// statedKind splits <kind>=<file>.
func statedKind(kinds []configKind, arg string) (kind, pattern string) {
	name, rest, ok := strings.Cut(arg, "=")
	if ok && kindNamed(kinds, name) != nil {
		return name, rest
	}
	return "", arg
}

// configFiles returns the files of a pattern or below a directory, sorted. Without any
// it returns an error.
func configFiles(pattern string) ([]string, error) {
	info, err := os.Stat(pattern)
	if err == nil && !info.IsDir() {
		return []string{pattern}, nil
	}
	var out []string
	if err == nil {
		err = filepath.WalkDir(pattern, func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() && slices.Contains([]string{".yml", ".yaml", ".json"}, filepath.Ext(path)) {
				out = append(out, path)
			}
			if len(out) > maxConfigFiles {
				return errors.New("the directory has too many files")
			}
			return err
		})
	} else {
		out, err = filepath.Glob(pattern)
	}
	if err == nil && len(out) == 0 {
		err = errors.New("no such file")
	}
	return out, err
}

// checkFile checks one file. kind is empty when the content has to show it.
func checkFile(ctx context.Context, kinds []configKind, kind, path string) checkRow {
	row := checkRow{File: path, Kind: kind, Result: checkOK}
	content, err := readConfigFile(path)
	if err != nil {
		row.Result, row.Details = checkUnreadable, oneLine(err)
		return row
	}
	k := kindNamed(kinds, kind)
	if k == nil {
		k, err = recognise(kinds, content)
		switch {
		case err != nil:
			row.Result, row.Details = checkInvalid, oneLine(err)
			return row
		case k == nil:
			row.Result, row.Details = checkUnknown, "no kind of configuration has these keys; state it as <kind>="+path
			return row
		}
		row.Kind = k.name
	}
	var unset []string
	if k.expand {
		content, unset = flags.ExpandSetEnv(content)
	}
	if err := k.check(ctx, path, content); err != nil {
		row.Result, row.Details = checkInvalid, strings.TrimPrefix(oneLine(err), path+": ")
		return row
	}
	if len(unset) > 0 {
		row.Details = "environment variables that are not set here: " + strings.Join(slices.Compact(slices.Sorted(slices.Values(unset))), ", ")
	}
	return row
}

// readConfigFile reads a file of bounded size.
func readConfigFile(path string) (_ []byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	content, err := io.ReadAll(io.LimitReader(f, maxConfigFile+1))
	if err == nil && len(content) > maxConfigFile {
		err = fmt.Errorf("it has more than %d bytes", maxConfigFile)
	}
	return content, err
}
