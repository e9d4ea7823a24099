package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/alecthomas/kingpin/v2"

	"github.com/hindsight-io/hindsight/pkg/errorid"
	"github.com/hindsight-io/hindsight/pkg/flags"
	"github.com/hindsight-io/hindsight/pkg/telemetry"
)

// explainErrorCommand adds the command that prints the pages of errors, which are in the
// program, so that it needs no connection.
func explainErrorCommand(group *kingpin.CmdClause) command {
	cmd := group.Command("explain-error", "Prints what an error means and what to do, by the id that its text ends with, such as hs-disk-full. It opens no connection.")
	new(telemetry.Config).RegisterFlags(cmd)
	id := cmd.Arg("id", "The id. Without it, all ids are listed.").String()
	return command{name: toolsGroup + " explain-error", run: func(_ context.Context, s streams) error {
		return explainError(s.out, *id)
	}}
}

func explainError(out io.Writer, id string) error {
	var text strings.Builder
	if id == "" {
		for _, p := range errorid.Pages() {
			fmt.Fprintf(&text, "%-30s %s\n", p.ID, p.Title)
		}
	} else {
		page, ok := errorid.Explain(id)
		if !ok {
			return flags.Invalid(fmt.Errorf("there is no error %q; run the command without an id for the list", id))
		}
		text.WriteString(page.String())
	}
	if _, err := io.WriteString(out, text.String()); err != nil {
		return fmt.Errorf("print the page: %w", err)
	}
	return nil
}
