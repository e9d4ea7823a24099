// Package doctor finds what is wrong with the sources of a bucket: with their external
// labels, replicas, clocks and shipping. It is pure: it decides from the metas, claims
// and announcements that the caller has read, at a time that the caller gives.
package doctor
