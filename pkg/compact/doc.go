// Package compact is the component that compacts a bucket: it merges blocks into
// larger ones, merges replicas, makes downsampled blocks, enforces retention, and
// deletes blocks that are no longer needed.
//
// It works in passes: list the bucket, plan (package plan), carry out the plan, and
// list again until the plan is empty. All state is in the bucket: the meta.json of a
// result names its sources, so the next pass continues an interrupted one, and a
// repeated job makes no duplicate. Inputs are marked for deletion after their result
// is in the bucket and verified.
//
// A failed job does not stop any other job. A damaged block is quarantined: it stays
// in the bucket, is reported, and no job takes it.
package compact
