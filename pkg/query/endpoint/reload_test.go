package endpoint

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

func TestReload_ReadsTheFileNowAndKeepsItWhenItIsWrong(t *testing.T) {
	content, broken := "endpoints: [{address: 'a:1'}]", error(nil)
	w := newWorld()
	s, err := New(Config{
		File: func() (*File, error) {
			if broken != nil {
				return nil, broken
			}
			return ParseFile("test", []byte(content))
		},
		FileInterval: 24 * time.Hour, Interval: time.Second, DNSInterval: time.Hour, ExpectedTimeout: time.Nanosecond,
		Resolver: w, Dial: w.dial, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	})
	require.NoError(t, err)
	defer func() { require.NoError(t, s.close()) }()
	names := func() (out []string) {
		s.Refresh(t.Context())
		for _, want := range s.file.Specs() {
			out = append(out, want.Address)
		}
		return out
	}
	require.Equal(t, []string{"a:1"}, names())
	content = "endpoints: [{address: 'b:1'}]"
	require.Equal(t, []string{"a:1"}, names(), "its interval has not passed")
	require.NoError(t, s.Reload())
	require.Equal(t, []string{"b:1"}, names())
	broken = errors.New("wrong")
	require.ErrorIs(t, s.Reload(), broken)
	require.Equal(t, []string{"b:1"}, names())
}

// seeing is a client that looks at the set while it is refreshed.
type seeing struct {
	Client
	see func()
}

func (c seeing) Refresh(ctx context.Context) error {
	c.see()
	return c.Client.Refresh(ctx)
}

// Queries read the endpoints while they are refreshed: what holds the slice that they
// were given is not written again.
func TestSet_HandsOutSlicesThatDoNotChange(t *testing.T) {
	w := newWorld()
	w.servers["a:1"] = &server{up: true}
	var s *Set
	var during *[]*Endpoint
	dial := func(spec Spec, address string, c ClientConfig) (Client, error) {
		client, err := w.dial(spec, address, c)
		return seeing{client, func() { during = s.current.Load() }}, err
	}
	s, err := New(Config{Specs: []Spec{{Address: "a:1"}}, Interval: time.Second, Logger: slog.New(slog.DiscardHandler), Dial: dial, Resolver: w})
	require.NoError(t, err)
	s.Refresh(t.Context())
	require.Len(t, *during, 1)
	require.NotSame(t, during, s.current.Load())
	require.NoError(t, s.close())
}
