// Package columnchunk encodes the samples of a chunk of floats as a column of times and
// a column of values, with steps of whole bytes. Decoding takes a quarter of the time of an
// XOR chunk, and most counters take a quarter of its bytes, because values with few decimals
// are counted in units of the last one. Other values stand as they are. The result of decoding
// is that of the XOR chunk bit for bit: the encoder compares.
//
// The encoding is that of the cache of a store gateway, see docs/format/column-cache.md, and of
// the columns objects of blocks, see docs/format/columns-object.md. These are stored, so
// decoders must read what all versions have written: another encoding needs another number than
// Encoding, and another version of that object. No chunk segment of a block, and no answer of a
// store to another process, contains it. The package is pure.
package columnchunk
