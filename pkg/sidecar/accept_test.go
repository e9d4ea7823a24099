package sidecar

import (
	"testing"

	"github.com/prometheus/prometheus/storage"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/sidecar/prom/promtest"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storetest"
)

// serve puts the data of the acceptance suite into a Prometheus.
func serve(t *testing.T, data storetest.Data) *promtest.Server {
	t.Helper()
	s := promtest.New(t, promtest.Options{ExternalLabels: data.External, XOR2: data.XOR2})
	for _, series := range data.Series {
		s.Write(t, func(app storage.Appender) error {
			for _, x := range series.Samples {
				var err error
				if x.H != nil || x.FH != nil {
					_, err = app.AppendHistogram(0, series.Labels, x.T, x.H, x.FH)
				} else {
					_, err = app.Append(0, series.Labels, x.T, x.V)
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	return s
}

func TestAcceptance(t *testing.T) {
	storetest.Run(t, func(t *testing.T, data storetest.Data) storeapi.Store {
		return newStore(t, serve(t, data))
	})
}

func TestAcceptanceThroughGRPC(t *testing.T) {
	storetest.Run(t, func(t *testing.T, data storetest.Data) storeapi.Store {
		return storetest.ThroughGRPC(t, newStore(t, serve(t, data)))
	})
}

func TestMetadata_IsEmptyWithoutTargets(t *testing.T) {
	st := newStore(t, promtest.New(t, promtest.Options{ExternalLabels: one("cluster", "eu")}))
	got, ws, err := st.Metadata(t.Context(), "", -1)
	require.NoError(t, err)
	require.Empty(t, ws)
	require.Empty(t, got)
}
