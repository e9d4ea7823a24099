//go:build hindsight_poison

package pagecache

// poisonOnRecycle overwrites buffers when they are recycled, so that a kept view is
// noticed at once. Test builds set the tag.
const poisonOnRecycle = true
