package dashboards

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// profileTime is how long the profile of the gateway takes.
const profileTime = time.Minute

// BenchmarkProfile writes a profile of the CPU of the gateway to the file that
// HINDSIGHT_DASHBOARDS_PROFILE names, while it answers the queries of BenchmarkDashboards.
// The binary is built with it (see test/pgo).
func BenchmarkProfile(b *testing.B) {
	file := os.Getenv("HINDSIGHT_DASHBOARDS_PROFILE")
	if file == "" {
		b.Skip("HINDSIGHT_DASHBOARDS_PROFILE is not set")
	}
	s := newSite(b)
	queries := append(heavy(), instant()...)
	for _, q := range queries {
		s.run(s.queryURL, q)
	}
	ctx, cancel := context.WithTimeout(b.Context(), 2*profileTime)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- s.profile(ctx, file) }()
	for n := 0; ; n++ {
		select {
		case err := <-done:
			require.NoError(b, err)
			return
		default:
			s.run(s.queryURL, queries[n%len(queries)])
		}
	}
}

// profile writes the profile of the gateway to a file.
func (s *site) profile(ctx context.Context, file string) error {
	url := fmt.Sprintf("%s/debug/pprof/profile?seconds=%d", s.storeURL, int(profileTime.Seconds()))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s: %s", url, resp.Status, data)
	}
	return os.WriteFile(file, data, 0o644)
}
