// Package blockmerge merges blocks of a bucket into one block without a local copy of
// them.
//
// It reads the symbols, series and chunks of each source in ranges, in the order in
// which they lie in their files, with bounded buffers. Series are compared by the
// numbers of their symbols in the result, so no label is decoded to a string. Workers
// merge the chunks of series that several sources have and pass all other chunks on as
// they are; one goroutine writes the result in the order of the series. So the result
// has the same bytes with any number of workers.
//
// Downsampling reads and writes a block in the same way: its workers make other chunks of
// those of each series.
//
// A segment of the result is uploaded as soon as it is complete and then removed from
// the disk. Memory depends on the number of sources and of symbols, not on the size of
// the blocks.
package blockmerge
