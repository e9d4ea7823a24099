// Package chunkcheck checks the encoded chunks of a TSDB before anything reads
// their samples. The iterators of Prometheus allocate what the head of a chunk
// announces: a histogram chunk of 50 bytes can name 2^32 buckets, and opening it
// ends the process. The check compares every announced number with the bits that
// are left to hold it. It is pure and reads the head of the chunk only.
package chunkcheck
