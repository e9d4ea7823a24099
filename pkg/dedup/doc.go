// Package dedup merges the replicas of one series, sample by sample, into the
// one series that they all observed. It is pure: iterators in, an iterator out.
package dedup
