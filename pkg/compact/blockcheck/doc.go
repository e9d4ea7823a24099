// Package blockcheck verifies the result of a merge before it becomes visible, so that
// sources are marked for deletion only when the bucket has their samples.
//
// It keeps digests. A digest is a sum over chunks of a hash of the labels of the series,
// the times, the encoding and the checksum of the chunk, so it does not depend on the
// order in which chunks are read and needs no memory that grows with the blocks. Labels
// enter as the hashes of their strings, not as numbers of symbols. The sources are added
// where their chunks are decoded, the results where their records are written, and
// what a worker makes of several chunks is compared sample by sample with its inputs. In
// the end the index of each result is read back from the bucket and compared with the
// digest of what was written, and its chunks, or a sample of them, as well.
package blockcheck
