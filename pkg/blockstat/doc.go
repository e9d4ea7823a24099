// Package blockstat says which metrics, labels and tenants the series and bytes of blocks
// belong to. It reads the index of a block by ranges, as a stream, and no chunk: the
// references of chunks give their sizes. Memory is that of the index header and of a
// bounded number of rows.
package blockstat
