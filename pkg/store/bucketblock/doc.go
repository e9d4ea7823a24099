// Package bucketblock reads one block from the bucket: matchers to postings
// lists, postings to series, series to chunks, each stage with one round of
// range reads for a whole batch.
package bucketblock
