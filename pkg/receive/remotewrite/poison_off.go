//go:build !hindsight_poison

package remotewrite

const poisonOnRelease = false
