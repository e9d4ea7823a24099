// Package doctorhttp serves what is wrong with the sources of a bucket, for the pages of
// store, compact and "tools bucket web". It also reads the bucket for "tools doctor".
package doctorhttp
