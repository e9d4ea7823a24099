// Command soak runs a whole site of real processes for a time, lets faults happen to it
// that follow from a seed, and checks the invariants of the project. docs/soak.md
// describes it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/hindsight-io/hindsight/test/e2e/harness"
)

func main() {
	if err := soak(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

// soak runs one seed.
func soak(args []string) (err error) {
	flags := flag.NewFlagSet("soak", flag.ContinueOnError)
	minutes := flags.Float64("minutes", 30, "how long faults happen")
	seed := flags.Uint64("seed", 0, "number from which the faults follow; 0 takes one from the clock")
	keep := flags.Bool("keep", false, "keep the data and logs also of a run without a violation")
	plan := flags.Int("plan", 0, "print the faults of this many rounds, and end")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *seed == 0 {
		*seed = uint64(time.Now().UnixNano() % 1_000_000)
	}
	if *plan > 0 {
		s := newSchedule(*seed, processes(), machine{partitions: true, disks: true})
		for n := range *plan {
			fmt.Println(n+1, s.next())
		}
		return nil
	}
	dir, err := os.MkdirTemp("", "hindsight-soak-")
	if err != nil {
		return fmt.Errorf("make a directory for the run: %w", err)
	}
	bin, err := harness.Build(dir, os.Stderr)
	if err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	fmt.Printf("seed %d, %v minutes, %s\n", *seed, *minutes, dir)
	err = do(ctx, config{seed: *seed, lasts: time.Duration(*minutes * float64(time.Minute)), warm: 10 * time.Second, dir: dir, bin: bin, out: os.Stdout, history: true})
	if err == nil && !*keep || ctx.Err() != nil {
		err = errors.Join(err, os.RemoveAll(dir))
	}
	return err
}
