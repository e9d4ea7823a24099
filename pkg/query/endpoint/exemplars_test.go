package endpoint

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/connectivity"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

func (c *fakeClient) OffersExemplars() bool { return true }

func (c *fakeClient) Exemplars(context.Context, *storeapi.ExemplarRequest) ([]storeapi.ExemplarSeries, storeapi.Warnings, error) {
	return nil, nil, nil
}

// exemplarFake is a client that dies.
type exemplarFake struct {
	fakeClient
	offers bool
	dead   error
}

func (c *exemplarFake) Refresh(context.Context) error { return c.dead }
func (c *exemplarFake) State() connectivity.State     { return connectivity.Ready }
func (c *exemplarFake) OffersExemplars() bool         { return c.offers }

func TestOnlyStoresWithExemplarsAreMissed(t *testing.T) {
	ask := func(e *Endpoint) error {
		_, _, err := e.Exemplars(t.Context(), &storeapi.ExemplarRequest{})
		return err
	}
	look := func(e *Endpoint) { e.refresh(t.Context(), time.Minute, time.Now) }

	for _, offers := range []bool{true, false} {
		c := &exemplarFake{offers: offers, dead: errors.New("connection refused")}
		e := &Endpoint{name: "a:1", client: c}
		look(e)
		require.ErrorContains(t, ask(e), "store a:1 has never been reached", "its exemplars are unknown")
		c.dead = nil
		look(e)
		require.NoError(t, ask(e))
		c.dead = errors.New("connection refused")
		look(e)
		if offers {
			require.ErrorIs(t, ask(e), storeapi.ErrUnavailable)
		} else {
			require.NoError(t, ask(e), "it had none when it was there")
		}
	}
	require.ErrorContains(t, ask(&Endpoint{name: "b:1", client: broken{errors.New("no certificate")}}), "b:1")
}
