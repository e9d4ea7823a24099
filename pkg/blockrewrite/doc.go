// Package blockrewrite makes a new block of one block on the local disk: without the
// samples of deleted series or intervals, or with other labels. The caller downloads
// the source, and uploads the result under the ULID that Describe has written.
//
// A rewritten block names its source in compaction.parents, by which the compactor
// knows that it supersedes the source though both have the same compaction.sources,
// and the changes in thanos.rewrites, as the rewrite tool of Thanos does.
package blockrewrite
