// Package indexheader has the small part of the index of a block that every query
// needs: the symbols, and the position of the postings list of each label pair. It is
// made from two or three range reads of the index and kept in a local file
// (docs/format/index-header.md), which is mapped into memory and not parsed.
package indexheader
