// Package blocks reads the persisted blocks of a TSDB that another process
// owns, while that process compacts and deletes them.
package blocks
