// Command hindsight is long-term memory and one global view for many
// Prometheus servers. Each role is a subcommand; see hindsight --help.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	go func() {
		// Restore the default action after the first signal: a second one ends the
		// process at once.
		<-ctx.Done()
		stop()
	}()
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	reload := make(chan struct{}, 1)
	go func() {
		for range hangups {
			select {
			case reload <- struct{}{}:
			default: // a pending reload reads everything
			}
		}
	}()
	os.Exit(run(ctx, os.Args[1:], streams{out: os.Stdout, err: os.Stderr, reload: reload}))
}
