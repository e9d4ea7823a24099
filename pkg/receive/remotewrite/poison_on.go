//go:build hindsight_poison

package remotewrite

// poisonOnRelease overwrites buffers when their last owner lets go, so that a
// reader who kept a view sees nonsense at once. Test builds set the tag.
const poisonOnRelease = true
