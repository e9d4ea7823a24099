package query

import "github.com/hindsight-io/hindsight/pkg/storeapi/storerpc"

// lower takes the limits of a client where they are lower.
func (l *fetchLimits) lower(o storerpc.QueryLimits) {
	for _, p := range []struct {
		own *int64
		of  int64
	}{{&l.Samples, o.Samples}, {&l.Series, o.Series}, {&l.Chunks, o.Chunks}, {&l.Bytes, o.Bytes}} {
		if p.of > 0 && (*p.own <= 0 || p.of < *p.own) {
			*p.own = p.of
		}
	}
}

// readNow is what was read so far.
func (a *account) readNow() storerpc.QueryRead {
	a.mtx.Lock()
	defer a.mtx.Unlock()
	return storerpc.QueryRead{Samples: a.samples, Series: a.series, Chunks: a.chunks, Bytes: a.bytes}
}

// readBelow counts what a store read to evaluate a part of the query. None of it is held
// here.
func (a *account) readBelow(r storerpc.QueryRead, source func() string) error {
	a.mtx.Lock()
	defer a.mtx.Unlock()
	a.samples += r.Samples
	a.evaluated += r.Samples
	a.series += r.Series
	a.chunks += r.Chunks
	a.bytes += r.Bytes
	return a.exceeded(counts{}, source)
}
