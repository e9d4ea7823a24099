package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/common/version"

	"github.com/hindsight-io/hindsight/pkg/errorid"
	"github.com/hindsight-io/hindsight/pkg/flags"
)

// Exit codes of the program.
const (
	exitOK     = 0
	exitFailed = 1 // the program failed
	exitUsage  = 2 // the user's input is wrong
)

// exitError is an error with an exit code of its own.
type exitError struct {
	error
	code int
}

func (e exitError) Unwrap() error { return e.error }

type streams struct {
	out, err io.Writer
	// reload gets a value for each SIGHUP; nil when there are none.
	reload <-chan struct{}
	// ignored lists the given flags that have no effect.
	ignored []ignoredFlag
	// command is the name of the command that runs.
	command string
}

type ignoredFlag struct{ name, reason string }

// command is one subcommand: its name, and the function that runs it after the
// flags are parsed.
type command struct {
	name string
	run  func(ctx context.Context, s streams) error
}

// terminated carries the exit code of --help and --version out of the parser.
type terminated int

// commands returns the roles, in the order of the help page.
func commands() []func(*kingpin.Application) command {
	return []func(*kingpin.Application) command{
		sidecarCommand, receiveCommand, storeCommand, queryCommand, compactCommand, allCommand,
	}
}

// registerAll adds the roles and the tools, and returns them by name.
func registerAll(app *kingpin.Application) map[string]command {
	known := map[string]command{}
	for _, register := range commands() {
		c := register(app)
		known[c.name] = c
	}
	for _, c := range toolCommands(app) {
		known[c.name] = c
	}
	return known
}

// run parses args, runs the subcommand and returns the exit code. Errors are
// one line each on s.err.
func run(ctx context.Context, args []string, s streams) (code int) {
	defer func() {
		switch end := recover().(type) {
		case nil:
		case terminated:
			code = int(end)
		default:
			panic(end)
		}
	}()
	app := kingpin.New("hindsight", "Long-term memory and one global view for many Prometheus servers.")
	app.Version(version.Print("hindsight"))
	app.HelpFlag.Short('h')
	app.UsageWriter(s.out)
	app.ErrorWriter(s.err)
	app.Terminate(func(code int) { panic(terminated(code)) })

	known := registerAll(app)
	name, err := app.Parse(args)
	if err != nil {
		command := subcommand(args, known)
		text := oneLine(named(err, args))
		fmt.Fprintf(s.err, "hindsight: error: %s%s (see: hindsight %s--help, hindsight tools explain-error %s)\n",
			text, didYouMean(app, strings.TrimSpace(command), text), command, errorid.FlagInvalid)
		return exitUsage
	}
	s.ignored, s.command = ignoredFlags(app, args), name
	err = known[name].run(ctx, s)
	interrupted := errors.Is(err, context.Canceled) && ctx.Err() != nil
	switch {
	case err == nil || interrupted && !strings.HasPrefix(name, toolsGroup+" "):
		return exitOK
	case flags.IsInvalid(err):
		fmt.Fprintf(s.err, "hindsight %s: error: %s %s\n", name, oneLine(err), errorid.Hint(errorid.Of(err)))
		return exitUsage
	}
	text, id := oneLine(err), cmp.Or(errorid.Of(err), errorid.CommandFailed)
	if interrupted {
		// The task of a tool is not done, unlike that of a role that was stopped.
		text, id = "interrupted", errorid.Interrupted
	}
	fmt.Fprintf(s.err, "hindsight %s: error: %s %s\n", name, text, errorid.Hint(id))
	if exit := (exitError{}); errors.As(err, &exit) {
		return exit.code
	}
	return exitFailed
}

// subcommand returns the given subcommand with a space, for the hint at --help.
func subcommand(args []string, known map[string]command) string {
	for i, a := range args {
		if a == toolsGroup {
			name := a
			for _, next := range args[i+1:] {
				if !isGroupOrCommand(name+" "+next, known) {
					break
				}
				name += " " + next
			}
			return name + " "
		}
		if _, ok := known[a]; ok {
			return a + " "
		}
	}
	return ""
}

// isGroupOrCommand says whether a command has the name, or begins with it.
func isGroupOrCommand(name string, known map[string]command) bool {
	for k := range known {
		if k == name || strings.HasPrefix(k, name+" ") {
			return true
		}
	}
	return false
}

// named puts the flag in front of an error that quotes its value only.
func named(err error, args []string) error {
	if number := (*strconv.NumError)(nil); errors.As(err, &number) {
		// Its text names the function that has parsed it.
		reason := "is not a number"
		if errors.Is(err, strconv.ErrRange) {
			reason = "is out of range"
		}
		err = fmt.Errorf("%q %s", number.Num, reason)
	}
	for i, a := range args {
		flag, value, ok := strings.Cut(a, "=")
		if !ok && i+1 < len(args) {
			value = args[i+1]
		}
		text := err.Error()
		if strings.HasPrefix(flag, "-") && value != "" && strings.Contains(text, value) && !strings.Contains(text, flag) {
			return fmt.Errorf("%s: %w", flag, err)
		}
	}
	return err
}

// maxErrorLines bounds the lines of an error that oneLine joins. A tool that goes on after
// failures has one for each of thousands of blocks.
const maxErrorLines = 10

// oneLine joins the lines of an error, and hides the secrets of its URLs.
func oneLine(err error) string {
	var parts []string
	for line := range strings.SplitSeq(err.Error(), "\n") {
		if line = strings.TrimSpace(line); line != "" {
			parts = append(parts, line)
		}
	}
	if more := len(parts) - maxErrorLines; more > 0 {
		parts = append(parts[:maxErrorLines], fmt.Sprintf("and %d more", more))
	}
	return flags.RedactText(strings.Join(parts, " "))
}

// ignoredFlags returns the flags among args that have no effect.
func ignoredFlags(app *kingpin.Application, args []string) []ignoredFlag {
	// The arguments were parsed without an error before.
	parsed, err := app.ParseContext(args)
	if err != nil {
		return nil
	}
	var out []ignoredFlag
	for _, e := range parsed.Elements {
		f, ok := e.Clause.(*kingpin.FlagClause)
		if !ok {
			continue
		}
		if reason, ignored := flags.IsIgnored(f.Model().Help); ignored {
			out = append(out, ignoredFlag{name: "--" + f.Model().Name, reason: reason})
		}
	}
	return out
}
