package downsample

import "math"

// samplesPerChunk bounds the mean number of windows of a chunk.
const samplesPerChunk = 140

// rawInterval is the assumed distance of raw samples in milliseconds, from which the
// number of chunks is estimated.
const rawInterval = 60_000

// chunkCount returns the number of chunks for the windows of [mint, maxt] when count
// inputs at a distance of inRes fill them.
func chunkCount(mint, maxt, inRes, outRes int64, count int) int {
	windows := float64((maxt - mint) / outRes)
	full := min(1, float64(count)/(float64(maxt-mint)/float64(inRes)))
	if math.IsNaN(full) {
		full = 1
	}
	expected := int(windows*full) + 1
	n := 1
	for expected/n > samplesPerChunk {
		n++
	}
	return n
}
