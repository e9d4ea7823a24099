package endpoint

import (
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
