// Package block is a block in a bucket: its names, meta.json and marks, and its
// upload, download, verification and deletion. A block exists while its meta.json
// exists: an upload writes it last, and a deletion deletes it first.
package block
