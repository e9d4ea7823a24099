// Package aggr is the five-aggregate chunk of downsampled data: its bytes, how
// samples are read from it, and which aggregates a PromQL function needs.
//
// The format is drawn in docs/format/aggregate-chunk.md. The package is pure: no
// I/O, no clock, no shared state.
package aggr
