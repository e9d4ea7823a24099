package eval

// sample returns the value at a step that has one.
func (r *row) sample(i int) sample {
	if r.h != nil && r.h[i] != nil {
		return sample{h: r.h[i]}
	}
	return sample{f: r.v[i]}
}

// put sets the value at a step, which may have one.
func (r *row) put(i int, s sample) {
	if s.h != nil && r.h == nil {
		r.histograms()
	}
	if r.h != nil {
		r.h[i] = s.h
	}
	r.v[i], r.has[i] = s.f, true
}

// count sets n from has, and returns it. Steps without a value lose the histogram
// that was there.
func (r *row) count() int {
	r.n = 0
	for i, ok := range r.has {
		if ok {
			r.n++
		} else if r.h != nil {
			r.h[i] = nil
		}
	}
	return r.n
}

// setResults sets the values where has is true. boolean makes comparisons 0 or 1.
func (r *row) setResults(results []opResult, boolean bool) {
	for i := range r.has {
		o := &results[i]
		switch {
		case !r.has[i]:
		case boolean && o.keep:
			r.put(i, sample{f: 1})
		case boolean:
			r.put(i, sample{f: 0})
		case o.keep:
			r.put(i, o.sample)
		default:
			r.drop(i)
		}
	}
}
