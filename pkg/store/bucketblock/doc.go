// Package bucketblock reads one block from the bucket: matchers to postings lists,
// postings to series, series to chunks. Each stage makes one round of range reads for
// a whole batch.
package bucketblock
