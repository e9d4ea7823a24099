package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/common/version"

	"github.com/hindsight-io/hindsight/pkg/flags"
)

// Exit codes of the program.
const (
	exitOK     = 0
	exitFailed = 1 // something broke
	exitUsage  = 2 // the user's input is wrong
)

type streams struct {
	out, err io.Writer
}

// command is one subcommand: its name, and what runs it once the flags are
// parsed.
type command struct {
	name string
	run  func(ctx context.Context, s streams) error
}

// run parses args, runs the subcommand and returns the exit code. Errors are
// one line each on s.err.
func run(ctx context.Context, args []string, s streams) int {
	app := kingpin.New("hindsight", "Long-term memory and one global view for many Prometheus servers.")
	app.Version(version.Print("hindsight"))
	app.HelpFlag.Short('h')
	app.UsageWriter(s.out)
	app.ErrorWriter(s.err)
	ended := -1
	app.Terminate(func(code int) { ended = code })

	commands := map[string]command{}
	for _, c := range []command{
		sidecarCommand(app), receiveCommand(app), storeCommand(app), queryCommand(app), compactCommand(app), allCommand(app),
	} {
		commands[c.name] = c
	}
	name, err := app.Parse(args)
	if ended >= 0 {
		return ended // --help or --version
	}
	if err != nil {
		fmt.Fprintf(s.err, "hindsight: error: %s (see hindsight %s--help)\n", oneLine(err), subcommand(args, commands))
		return exitUsage
	}
	err = commands[name].run(ctx, s)
	switch {
	case err == nil || errors.Is(err, context.Canceled) && ctx.Err() != nil:
		return exitOK
	case flags.IsInvalid(err):
		fmt.Fprintf(s.err, "hindsight %s: error: %s\n", name, oneLine(err))
		return exitUsage
	}
	fmt.Fprintf(s.err, "hindsight %s: error: %s\n", name, oneLine(err))
	return exitFailed
}

// subcommand is the given subcommand with a space, for the hint at --help.
func subcommand(args []string, commands map[string]command) string {
	for _, a := range args {
		if _, ok := commands[a]; ok {
			return a + " "
		}
	}
	return ""
}

// oneLine keeps an error to one line, so that logs and terminals show it whole.
func oneLine(err error) string {
	var parts []string
	for line := range strings.SplitSeq(err.Error(), "\n") {
		if line = strings.TrimSpace(line); line != "" {
			parts = append(parts, line)
		}
	}
	return strings.Join(parts, " ")
}
