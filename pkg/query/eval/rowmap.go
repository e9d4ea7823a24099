package eval

import "context"

// rowMap is a rowPlan made of a function.
type rowMap struct {
	make func(ctx context.Context, sc *scope) (rowFunc, error)
	// drops says that the name of the metric is dropped, labels that f sets labels.
	drops, labels bool
}

func (m rowMap) dropsName() bool { return m.drops }
func (m rowMap) relabels() bool  { return m.labels }

// prepare implements rowPlan.
func (m rowMap) prepare(ctx context.Context, sc *scope) (rowFunc, error) {
	f, err := m.make(ctx, sc)
	if err != nil || !m.drops {
		return f, err
	}
	return func(w *worker, r *row) error {
		if err := f(w, r); err != nil {
			return err
		}
		w.dropName(r)
		return nil
	}, nil
}

// always is a function that is the same for each evaluation and drops the name of
// the metric.
func always(f rowFunc) rowMap {
	return rowMap{drops: true, make: func(context.Context, *scope) (rowFunc, error) { return f, nil }}
}
