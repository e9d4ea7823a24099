// Package sizing measures, with real processes, what one series and one sample cost in
// memory, on disk, in the bucket and in CPU. The figures of pkg/sizing and of
// docs/sizing.md come from it.
package sizing
