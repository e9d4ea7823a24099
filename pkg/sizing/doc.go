// Package sizing computes the memory, disk, bucket bytes and CPU that an installation
// needs, from its load and from figures that `make bench` measures. It is pure.
package sizing
