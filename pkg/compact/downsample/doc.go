// Package downsample makes coarser series: raw samples become windows of 5 m,
// those windows of 1 h, each with count, sum, minimum, maximum and counter. What
// goes into them is described in docs/format/aggregate-chunk.md. It is pure;
// reading and writing blocks is left to the caller.
//
// Samples are decoded a chunk at a time into columns, and chunks are encoded
// from registers; nothing is allocated per sample.
package downsample
