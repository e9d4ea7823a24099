// Package downsample makes coarser series: windows of 5 m from raw samples, and windows
// of 1 h from those of 5 m, each with count, sum, minimum, maximum and counter, as
// docs/format/aggregate-chunk.md describes. It is pure; the caller reads and writes
// blocks.
//
// It decodes a chunk at a time into columns and allocates nothing per sample.
package downsample
