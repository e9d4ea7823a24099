// Package plan decides what a compactor does next: block metas and marks, a
// policy and a time go in, an ordered list of jobs comes out, each with its
// reason. It is pure; the package compact does what it says.
//
// A plan is complete in the sense that its jobs touch disjoint sets of blocks
// and can run in any order or at once, and that planning again after they have
// run continues where they ended. Nothing is remembered between two plans, so
// an interrupted run is continued by the next one.
package plan
