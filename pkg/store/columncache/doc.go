// Package columncache keeps the chunks of floats of blocks as columns (package columnchunk)
// in a file, so that queries that read them again decode them in a fraction of the time, and
// read fewer bytes.
//
// Chunks are kept by the page of their segment in which they begin. The file is a log without
// an order that lasts: the process that opens it empties it. See
// docs/format/column-cache.md.
package columncache
