package blockmerge

import "context"

// head is the current series of a source.
type head struct {
	src   *source
	batch *batch
	i     int
}

func (h *head) series() *series { return &h.batch.series[h.i] }

// aligner puts the series of the sources with equal labels together, in order.
type aligner struct {
	live []*head // that have a series
	// todo and ordered get each unit: the workers merge it, and the writer writes it.
	todo, ordered chan<- *unit
	idle          <-chan *unit
	most          int // bytes of a unit
	unit          *unit
	units         uint64
}

// run aligns all series.
func (a *aligner) run(ctx context.Context, sources []*source) error {
	defer close(a.todo)
	defer close(a.ordered)
	for _, s := range sources {
		h := &head{src: s}
		ok, err := h.fetch(ctx)
		if err != nil {
			return err
		}
		if ok {
			a.live = append(a.live, h)
		}
	}
	var equal []*head // those that have the smallest labels
	for len(a.live) > 0 {
		if a.unit == nil {
			select {
			case a.unit = <-a.idle:
				a.units++
				a.unit.reset(a.units)
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		equal = smallest(a.live, equal[:0])
		a.add(equal)
		if a.unit.bytes >= a.most || len(a.unit.series) >= maxUnitSeries {
			if err := a.send(ctx); err != nil {
				return err
			}
		}
		if err := a.advance(ctx, equal); err != nil {
			return err
		}
	}
	return a.send(ctx)
}

// smallest appends to equal the heads whose series has the smallest labels.
func smallest(live, equal []*head) []*head {
	equal = append(equal, live[0])
	for _, h := range live[1:] {
		switch c := compareLabels(h.series().labels, equal[0].series().labels); {
		case c < 0:
			equal = append(equal[:0], h)
		case c == 0:
			equal = append(equal, h)
		}
	}
	return equal
}

// add adds a series to the unit.
func (a *aligner) add(equal []*head) {
	u := a.unit
	first := len(u.parts)
	for _, h := range equal {
		s := h.series()
		u.parts = append(u.parts, part{series: s, source: h.src})
		for i := range s.chunks {
			u.bytes += len(s.chunks[i].record)
		}
		if h.batch.unit != u.number {
			h.batch.unit = u.number
			h.batch.users.Add(1)
			u.batches = append(u.batches, h.batch)
		}
	}
	u.series = append(u.series, unitSeries{labels: equal[0].series().labels, hash: equal[0].series().hash, parts: u.parts[first:len(u.parts):len(u.parts)]})
}

// send sends the unit, unless it is empty.
func (a *aligner) send(ctx context.Context) error {
	if a.unit == nil {
		return nil
	}
	u := a.unit
	a.unit = nil
	select {
	case a.ordered <- u:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case a.todo <- u:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// advance moves heads on. Before it waits for a batch, it sends the unit, whose batches
// the source may need again.
func (a *aligner) advance(ctx context.Context, equal []*head) error {
	ended := false
	for _, h := range equal {
		if h.i++; h.i < len(h.batch.series) {
			continue
		}
		if err := a.send(ctx); err != nil {
			return err
		}
		h.batch.release()
		ok, err := h.fetch(ctx)
		if err != nil {
			return err
		}
		ended = ended || !ok
	}
	if !ended {
		return nil
	}
	live := a.live[:0]
	for _, h := range a.live {
		if h.batch != nil {
			live = append(live, h)
		}
	}
	a.live = live
	return nil
}

// fetch takes the next batch of the source and says whether there is one.
func (h *head) fetch(ctx context.Context) (bool, error) {
	h.batch, h.i = nil, 0
	select {
	case b, ok := <-h.src.out:
		h.batch = b
		return ok, nil
	case <-ctx.Done():
		return false, ctx.Err()
	}
}
