package downsample

import "math"

// samplesPerChunk is how many windows a chunk has at most, on average.
const samplesPerChunk = 140

// rawInterval is the distance of raw samples that is assumed when the number of
// chunks is estimated, in milliseconds.
const rawInterval = 60_000

// windowEnd returns the last millisecond of the window that t is in.
func windowEnd(t, resolution int64) int64 { return t - t%resolution + resolution - 1 }

// chunkCount says over how many chunks the windows of [mint, maxt] are spread
// when count inputs, that come every inRes, fill it.
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
