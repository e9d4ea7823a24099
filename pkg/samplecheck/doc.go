// Package samplecheck decodes the chunks of a block and compares their samples with the
// times that the index has of them. A checksum does not tell a chunk that its writer has
// already damaged. The package is pure.
package samplecheck
