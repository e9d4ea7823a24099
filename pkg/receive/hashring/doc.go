// Package hashring decides which nodes store a series: it turns the hashring
// file and a tenant into an immutable Ring, and a series hash into an ordered
// set of replicas. Placement is identical to that of Thanos, so that rings can
// be mixed. The package is pure: no clock, no I/O.
package hashring
