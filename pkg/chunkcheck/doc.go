// Package chunkcheck checks encoded chunks of a TSDB before their samples are read. The
// iterators of Prometheus allocate as much as the head of a chunk announces: a histogram
// chunk of 50 bytes can announce 2^32 buckets, and opening it ends the process. The check
// compares every announced number with the bits that follow. It is pure and reads the
// head of the chunk only.
package chunkcheck
