package dedup

// Split distributes the chunks of one series, in ascending order of their start,
// over layers without overlaps: each chunk goes to the first layer whose last
// chunk ends before it starts, or to a new one. span returns the inclusive bounds
// of a chunk. Without any overlap the result is one layer, chunks itself.
func Split[C any](chunks []C, span func(C) (mint, maxt int64)) [][]C {
	if !overlap(chunks, span) {
		return [][]C{chunks}
	}
	var layers [][]C
	var ends []int64
next:
	for _, c := range chunks {
		mint, maxt := span(c)
		for i, end := range ends {
			if end < mint {
				layers[i] = append(layers[i], c)
				ends[i] = maxt
				continue next
			}
		}
		r := make([]C, 1, len(chunks)/2+1)
		r[0] = c
		layers = append(layers, r)
		ends = append(ends, maxt)
	}
	return layers
}

func overlap[C any](chunks []C, span func(C) (mint, maxt int64)) bool {
	var end int64
	for i, c := range chunks {
		mint, maxt := span(c)
		if i > 0 && mint <= end {
			return true
		}
		end = maxt
	}
	return false
}
