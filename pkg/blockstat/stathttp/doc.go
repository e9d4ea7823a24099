// Package stathttp serves which metrics, labels and label values the series and bytes of
// blocks belong to, for the pages of store and compact.
package stathttp
