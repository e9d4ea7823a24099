// Package indexheader keeps, for one block, the small part of its index that
// every query needs: the symbols, and where the postings list of each label
// pair lies. It is made from two or three range reads of the index, is kept in
// a local file of its own format (docs/format/index-header.md), and is read in
// place, so that opening one costs no parsing and little heap.
package indexheader
