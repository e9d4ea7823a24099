// Package pagecache reads byte ranges of the immutable objects of blocks in pages of
// fixed size. It reads pages that are neither in memory nor on disk from the bucket,
// in few parallel range reads, and keeps them for the next query.
package pagecache
