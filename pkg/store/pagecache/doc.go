// Package pagecache reads byte ranges of the immutable objects of blocks in
// pages of fixed size: what is not in memory comes from the bucket in few
// range reads, issued in parallel, and is kept for the next query.
package pagecache
