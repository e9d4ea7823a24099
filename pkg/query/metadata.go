package query

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// Metadata asks all stores that know metadata, and merges the answers. A store
// that fails is named in a warning.
func (q *Query) Metadata(ctx context.Context, metric string, limit int) (map[string][]storeapi.Metadata, storeapi.Warnings, error) {
	if limit == 0 {
		return nil, nil, nil
	}
	type answer struct {
		found map[string][]storeapi.Metadata
		ws    storeapi.Warnings
	}
	stores := q.stores()
	answers := make([]answer, len(stores))
	var wg sync.WaitGroup
	for i, s := range stores {
		ms, ok := s.(storeapi.MetadataStore)
		if !ok {
			continue
		}
		wg.Go(func() {
			a := &answers[i]
			var err error
			if a.found, a.ws, err = ms.Metadata(ctx, metric, limit); err != nil {
				a.ws = append(a.ws, storeapi.Warning{Source: fmt.Sprint(s), Text: err.Error()})
			}
		})
	}
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	out := map[string][]storeapi.Metadata{}
	var ws storeapi.Warnings
	for _, a := range answers {
		ws = append(ws, a.ws...)
		for name, metas := range a.found {
			for _, m := range metas {
				if !slices.Contains(out[name], m) {
					out[name] = append(out[name], m)
				}
			}
		}
	}
	return firstNames(out, limit), ws, nil
}

// firstNames keeps the first metrics in the order of their names, and orders the
// entries of each. A negative limit keeps all.
func firstNames(all map[string][]storeapi.Metadata, limit int) map[string][]storeapi.Metadata {
	names := slices.Sorted(maps.Keys(all))
	if limit >= 0 && len(names) > limit {
		for _, n := range names[limit:] {
			delete(all, n)
		}
	}
	for _, metas := range all {
		slices.SortFunc(metas, func(a, b storeapi.Metadata) int {
			return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Help, b.Help), cmp.Compare(a.Unit, b.Unit))
		})
	}
	return all
}
