// Package block is a block in a bucket: its names, meta.json and marks, and
// how it is uploaded, downloaded, verified and deleted. One rule holds
// everywhere: a block appears when its meta.json appears, which is written
// last, and disappears when it goes, which is deleted first.
package block
