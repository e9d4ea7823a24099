//go:build !hindsight_poison

package pagecache

const poisonOnRecycle = false
