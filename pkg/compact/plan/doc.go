// Package plan chooses the jobs of a compactor: from the metas and marks of blocks, a
// policy and a time it makes an ordered list of jobs, each with its reason. It is
// pure; package compact carries out the jobs.
//
// The jobs of a plan use disjoint sets of blocks and can run in any order or at the
// same time. The next plan continues from their results. A plan depends on nothing
// but its input, so the next run continues an interrupted one.
package plan
