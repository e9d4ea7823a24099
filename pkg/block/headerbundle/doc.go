// Package headerbundle keeps the index headers of many blocks in few objects of the
// bucket (docs/format/header-bundle.md). The compactor writes them after its passes, and
// a store gateway with an empty disk reads them with one request instead of one or
// more for each block. They are hints only: a header that is missing or unusable is made
// from the index of its block.
package headerbundle
