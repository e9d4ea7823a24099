// Package deletion is the requests to delete series, which are objects of a bucket:
// their format, which series and times they match, and the reading of all of them.
//
// A request applies to the samples in its time range whenever they arrive, from its
// creation until it expires. Stores that read the bucket leave those samples out of
// their answers; the compactor and the receivers remove them. The format is drawn in
// docs/format/deletion-request.md.
package deletion
