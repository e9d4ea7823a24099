// Package flags holds the value types of the command line that Thanos and
// Prometheus share: Prometheus durations, times relative to now, sizes, label sets,
// and configuration given as a path or as content. Each type implements
// kingpin.Value. It also parses configuration that several components have.
package flags

import "github.com/alecthomas/kingpin/v2"

// Registrar is where a component registers its flags: a kingpin command.
type Registrar interface {
	Flag(name, help string) *kingpin.FlagClause
}
