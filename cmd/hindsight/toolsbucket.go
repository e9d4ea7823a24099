package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"go.yaml.in/yaml/v3"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocklist"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/errorid"
	"github.com/hindsight-io/hindsight/pkg/flags"
)

// bucketGroup is the group of commands for the blocks of a bucket.
const bucketGroup = "bucket"

// bucketCommands adds the commands for the blocks of a bucket: "tools bucket ls".
func bucketCommands(tools *kingpin.CmdClause) []command {
	group := tools.Command(bucketGroup, "Lists, checks, marks, deletes and copies the blocks of a bucket.")
	var out []command
	for _, add := range []func(*kingpin.CmdClause) command{
		lsCommand, inspectCommand, verifyCommand, markCommand, cleanupCommand, retentionCommand, replicateCommand, costCommand,
		uploadCommand, downsampleCommand, rewriteCommand, webCommand, deleteSeriesCommand,
	} {
		c := add(group)
		c.name = toolsGroup + " " + bucketGroup + " " + c.name
		out = append(out, c)
	}
	return out
}

// poll lists the blocks of the bucket.
func poll(ctx context.Context, p *process, bkt bucket.Reader, concurrency int) (*blocklist.View, error) {
	v, err := blocklist.NewPoller(bkt, blocklist.Config{Logger: p.logger, Concurrency: concurrency}).Poll(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the blocks of the bucket: %w", err)
	}
	return v, nil
}

// withTimeout calls f in the time of --timeout; 0 is no bound.
func withTimeout(ctx context.Context, d time.Duration, f func(ctx context.Context) error) error {
	if d <= 0 {
		return f(ctx)
	}
	bounded, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	err := f(bounded)
	if err != nil && bounded.Err() != nil && ctx.Err() == nil {
		return fmt.Errorf("not done in --timeout=%s: %w", d, err)
	}
	return err
}

// failsForAll says whether what failed for one block fails for the others as well: the object
// storage does not answer, or the local disk is full. A command that goes on after a failure
// would wait for the storage at each block.
func failsForAll(err error) bool {
	switch errorid.Of(err) {
	case errorid.Timeout, errorid.Unreachable, errorid.DiskFull:
		return true
	}
	return false
}

// blockIDs parses the values of --id.
func blockIDs(values []string) ([]ulid.ULID, error) {
	var out []ulid.ULID
	for _, s := range values {
		id, ok := block.ParseID(s)
		if !ok {
			return nil, flags.Invalid(fmt.Errorf("--id=%s: it is not the ULID of a block", s))
		}
		out = append(out, id)
	}
	return out, nil
}

// labelMatchers parses matchers as in a PromQL selector; braces around them may be
// omitted. name is that of the flag or field that they are the value of, for errors.
func labelMatchers(name, s string) ([]*labels.Matcher, error) {
	s = strings.TrimSpace(s)
	if s == "" || s == "{}" {
		return nil, nil
	}
	if !strings.HasPrefix(s, "{") {
		s = "{" + s + "}"
	}
	ms, err := parser.NewParser(parser.Options{}).ParseMetricSelector(s)
	if err != nil {
		return nil, flags.Invalid(fmt.Errorf("%s=%s: %w", name, s, err))
	}
	return ms, nil
}

// labelText returns external labels without braces.
func labelText(m map[string]string) string { return strings.Trim(labels.FromMap(m).String(), "{}") }

// timeText returns a time in Unix milliseconds in RFC 3339.
func timeText(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339) }

// sortedMetas returns the complete blocks in order of ULID.
func sortedMetas(v *blocklist.View) []*block.Meta {
	return slices.SortedFunc(maps.Values(v.Metas), func(a, b *block.Meta) int { return a.ULID.Compare(b.ULID) })
}

// report is a list in one of the forms of --output.
type report struct {
	// list is encoded as JSON and YAML.
	list   any
	header []string
	cells  [][]string
}

// print writes the report; every form but JSON and YAML is a table.
func (r *report) print(w io.Writer, form string) error {
	switch form {
	case outputJSON:
		e := json.NewEncoder(w)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		return e.Encode(r.list)
	case outputYAML:
		e := yaml.NewEncoder(w)
		return errors.Join(e.Encode(r.list), e.Close())
	}
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, strings.Join(r.header, "\t"))
	for _, row := range r.cells {
		for i, cell := range row {
			if i > 0 {
				fmt.Fprint(t, "\t")
			}
			fmt.Fprint(t, orDash(strings.Map(printable, cell)))
		}
		fmt.Fprintln(t)
	}
	return t.Flush()
}

// printable replaces the characters that would break a table: labels may hold any.
func printable(r rune) rune {
	if r < ' ' || r == 0x7f {
		return ' '
	}
	return r
}

// progress shows on a terminal how much of a task is done.
type progress struct {
	w     *os.File // nil when there is no terminal
	shown bool
}

func newProgress(s streams) *progress {
	f, ok := s.err.(*os.File)
	if !ok {
		return &progress{}
	}
	if info, err := f.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return &progress{}
	}
	return &progress{w: f}
}

func (p *progress) show(done, total int, what string) {
	if p.w != nil {
		p.shown = true
		fmt.Fprintf(p.w, "\r%d of %d %s ", done, total, what)
	}
}

// end ends the line of the progress.
func (p *progress) end() {
	if p.shown {
		fmt.Fprintln(p.w)
		p.shown = false
	}
}
