// Package chunkmask removes time intervals from the encoded chunks of a series: of raw
// chunks, and of the aggregate chunks of downsampled data. Chunks without a deleted
// sample stay as they are; those with deleted and kept samples are encoded again.
//
// A window of downsampled data cannot be divided. It is removed if any part of it is
// in a deleted interval.
//
// The package is pure: no I/O, no clock, no shared state.
package chunkmask
