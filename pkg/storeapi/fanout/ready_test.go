package fanout_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/fanout"
)

// While the stores are not all known, an answer without the unknown ones would look
// complete, so requests of every kind fail, also those that accept partial answers.
func TestNotReady_EveryRequestFails(t *testing.T) {
	notYet := errors.New("not all stores were tried")
	var state error
	s := fanout.New(of(fake(t, "a", "m")), fanout.Config{Ready: func() error { return state }})
	calls := map[string]func() error{
		"series": func() error {
			r := request()
			set := s.Select(t.Context(), r)
			for set.Next() {
			}
			return errors.Join(set.Err(), set.Close())
		},
		"label names": func() error {
			_, _, err := s.LabelNames(t.Context(), request())
			return err
		},
		"label values": func() error {
			_, _, err := s.LabelValues(t.Context(), "__name__", request())
			return err
		},
		"exemplars": func() error {
			_, _, err := s.Exemplars(t.Context(), &storeapi.ExemplarRequest{})
			return err
		},
		"metadata": func() error {
			_, _, err := s.Metadata(t.Context(), "", -1)
			return err
		},
		"rules": func() error {
			_, _, err := s.Rules(t.Context(), &storeapi.RulesRequest{})
			return err
		},
		"targets": func() error {
			_, _, err := s.Targets(t.Context(), &storeapi.TargetsRequest{})
			return err
		},
		"status": func() error {
			_, _, err := s.TSDBStatus(t.Context(), &storeapi.TSDBStatusRequest{})
			return err
		},
	}
	for name, call := range calls {
		state = nil
		require.NoError(t, call(), name)
		state = notYet
		err := call()
		require.ErrorIs(t, err, notYet, name)
		require.ErrorIs(t, err, storeapi.ErrUnavailable, name)
	}
}
