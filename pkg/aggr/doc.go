// Package aggr is the five-aggregate chunk of downsampled data: its bytes, how
// samples are read from it, and which aggregate a PromQL function needs. It
// also decodes and encodes float chunks a column at a time, which downsampling
// and deduplication live on.
//
// The format is drawn in docs/format/aggregate-chunk.md. Everything here is
// pure: no I/O, no clock, no shared state.
package aggr
