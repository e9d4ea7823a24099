// Package compact is the component that keeps a bucket in order: it merges
// blocks into larger ones, merges replicas, makes downsampled blocks, enforces
// retention, and deletes what is no longer needed.
//
// It works in passes: look at the bucket, plan (package plan), carry out the
// plan, and look again until nothing is left to do. Nothing is remembered but
// in the bucket: what a result was made of is written in its meta.json, so that
// a pass that was interrupted is continued by the next one, and doing a job
// twice leaves no duplicate. Inputs are marked for deletion only when their
// result is in the bucket and was verified.
//
// A job that fails does not stop any other one. A block that is broken is
// quarantined, which means left where it is and reported; everything else goes
// on.
package compact
