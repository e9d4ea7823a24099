package main

import (
	"strings"

	"github.com/alecthomas/kingpin/v2"
)

// didYouMean returns what the user may have meant where the error names a flag or a command
// that does not exist, as " (did you mean --x?)", or "".
func didYouMean(app *kingpin.Application, name, text string) string {
	model := app.Model()
	var known []string
	prefix := ""
	wrong := ""
	if after, ok := strings.CutPrefix(text, "unknown long flag '--"); ok {
		wrong, _, _ = strings.Cut(after, "'")
		prefix = "--"
		known = flagsOf(model.FlagGroupModel, known)
		for group := model.CmdGroupModel; group != nil; {
			next := (*kingpin.CmdGroupModel)(nil)
			for _, c := range group.Commands {
				if c.FullCommand == name || strings.HasPrefix(name, c.FullCommand+" ") {
					known, next = flagsOf(c.FlagGroupModel, known), c.CmdGroupModel
				}
			}
			group = next
		}
	} else if after, ok := strings.CutPrefix(text, "expected command but got \""); ok {
		wrong, _, _ = strings.Cut(after, "\"")
		known = commandsOf(model.CmdGroupModel, name)
	}
	if best := nearest(wrong, known); best != "" {
		return " (did you mean " + prefix + best + "?)"
	}
	return ""
}

func flagsOf(g *kingpin.FlagGroupModel, out []string) []string {
	if g == nil {
		return out
	}
	for _, f := range g.Flags {
		if !f.Hidden {
			out = append(out, f.Name)
		}
	}
	return out
}

// commandsOf returns the commands below the group of that name, "" for the roles.
func commandsOf(g *kingpin.CmdGroupModel, name string) (out []string) {
	if g == nil {
		return nil
	}
	for _, c := range g.Commands {
		switch {
		case strings.HasPrefix(name+" ", c.FullCommand+" "):
			return commandsOf(c.CmdGroupModel, name)
		case !c.Hidden:
			out = append(out, c.Name)
		}
	}
	return out
}

// nearest returns the word that needs the fewest changes of letters, "" if the best one needs
// more than a third of them.
func nearest(word string, known []string) (best string) {
	least := len(word)/3 + 1
	for _, k := range known {
		if n := changes(word, k, least); n < least {
			best, least = k, n
		}
	}
	return best
}

// changes counts the letters to insert, delete or replace to make b of a (the distance of
// Levenshtein), or returns limit if there are at least as many.
func changes(a, b string, limit int) int {
	if max(len(a)-len(b), len(b)-len(a)) >= limit {
		return limit
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(diagonal+cost, row[j]+1, row[j+1]+1)
		}
	}
	return min(row[len(b)], limit)
}
