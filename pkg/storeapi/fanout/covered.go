package fanout

import "github.com/hindsight-io/hindsight/pkg/storeapi"

// bucketComponent is what store gateways announce to be.
const bucketComponent = "store"

// covered is what a store is asked to leave out. Gateways that have the same block send
// the same chunks, or placeholders with the same times; chunks of other stores overlap
// those of a gateway, and a reader then needs both. So a gateway leaves out only chunks
// that end before the other stores begin.
func (a *asking) covered(t *target) *storeapi.Covered {
	if a.r.Covered == nil || !t.info.SupportsSortWithout || t.info.Component != bucketComponent {
		return nil
	}
	c := *a.r.Covered
	c.Before = min(c.Before, a.fresh)
	return &c
}
