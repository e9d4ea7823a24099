// Package blockcolumns reads and writes the columns object of a block: a copy of its chunks of
// floats, as columns of package columnchunk, with an index of its own. The series of a metric
// stand in an order in which those of one instance are neighbours, so that a selector of few
// series reads few bytes at one place. The object is optional; the block is complete without
// it. See docs/format/columns-object.md.
//
// Write reads the files of a block. Readers are pure: their callers read the bytes. All
// bytes of an object are untrusted, and a reader that meets others than the format allows returns
// an error of IsCorrupt. Its memory is in proportion to what Unpacked says, but for the labels
// of series, which have 8 KiB each at most.
package blockcolumns
