// Package xorcolumn decodes XOR chunks, the float encoding of a TSDB, into
// columns of times and values, and encodes columns into XOR chunks. It reads and
// writes the bytes of Prometheus's chunkenc, several times as fast as its
// iterator and appender. It is pure.
package xorcolumn
