// Package blockcolumns reads and writes the columns object of a block: a copy of its chunks of
// floats, as columns of package columnchunk, with an index of its own. The series of a metric
// stand in an order in which those of one instance are neighbours, so that a selector of few
// series reads few bytes at one place. The object is optional; the block is complete without
// it. See docs/format/columns-object.md.
package blockcolumns
