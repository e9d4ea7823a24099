package harness

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"time"
)

// Host returns a loopback address for one run, so that concurrent runs do not use the
// same port.
func Host() string {
	return fmt.Sprintf("127.%d.%d.%d", 16+rand.IntN(200), rand.IntN(256), 1+rand.IntN(254))
}

// Port asks the kernel for a free port of host and returns host:port.
func Port(host string) (string, error) {
	a, err := Ports(host, 1)
	if err != nil {
		return "", err
	}
	return a[0], nil
}

// Ports asks the kernel for n different free ports of host.
func Ports(host string, n int) ([]string, error) {
	var out []string
	for range n {
		l, err := net.Listen("tcp", host+":0")
		if err != nil {
			return nil, fmt.Errorf("ask for a free port: %w", err)
		}
		// Kept open until all are known, or the kernel may return one twice.
		defer l.Close()
		out = append(out, l.Addr().String())
	}
	return out, nil
}

// WaitHTTP polls url until it answers 200, the process ends, or the time is
// over.
func WaitHTTP(p *Process, url string, within time.Duration) error {
	client := &http.Client{Timeout: 2 * time.Second}
	defer client.CloseIdleConnections()
	last := "no answer"
	for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if !p.Running() {
			return fmt.Errorf("%s ended before %s answered; the end of its log:\n%s", p.Name, url, p.Tail(20))
		}
		resp, err := client.Get(url)
		if err != nil {
			last = err.Error()
			continue
		}
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 500))
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return nil
		}
		last = resp.Status + ": " + string(body)
	}
	return fmt.Errorf("%s: %s is not ready after %s (last: %s); the end of its log:\n%s", p.Name, url, within, last, p.Tail(20))
}
