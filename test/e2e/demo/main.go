// Command demo starts the whole chain on this machine with the files of
// examples/demo: real Prometheus servers, node_exporter, an S3 server, and all
// roles of hindsight. It runs until it is interrupted.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/hindsight-io/hindsight/test/e2e/harness"
)

func main() {
	dir := flag.String("dir", "data/demo", "directory for data and logs; emptied at the start")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := demo(ctx, *dir); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// demo runs the site in dir until ctx is cancelled.
func demo(ctx context.Context, dir string) error {
	abs, err := emptied(dir)
	if err != nil {
		return err
	}
	bin, err := harness.Build(abs, os.Stdout)
	if err != nil {
		return err
	}
	site, err := harness.NewSite(abs, "", bin)
	if err != nil {
		return err
	}
	site.Say = os.Stdout
	for _, name := range harness.All() {
		if err := site.Start(name); err != nil {
			site.Kill()
			return err
		}
		if ctx.Err() != nil {
			break
		}
	}
	if ctx.Err() == nil {
		printSite(site)
	}
	<-ctx.Done()
	fmt.Println("\nstopping ...")
	errs := site.Stop(20 * time.Second)
	for _, err := range errs {
		fmt.Fprintln(os.Stderr, err)
	}
	if len(errs) > 0 {
		return fmt.Errorf("%d processes did not stop in order", len(errs))
	}
	fmt.Println("stopped")
	return nil
}

// emptied makes an empty directory. It refuses to remove one that is not of a demo.
func emptied(dir string) (string, error) {
	abs, err := absolute(dir)
	if err != nil {
		return "", err
	}
	marker := abs + "/.hindsight-demo"
	if entries, err := os.ReadDir(abs); err == nil && len(entries) > 0 {
		if _, err := os.Stat(marker); err != nil {
			return "", fmt.Errorf("the directory %s is not empty and not of an earlier demo; give another one with -dir", abs)
		}
		if err := os.RemoveAll(abs); err != nil {
			return "", fmt.Errorf("empty the directory of the earlier demo: %w", err)
		}
	}
	if err := os.MkdirAll(abs, 0o755); err != nil {
		return "", fmt.Errorf("make the directory of the demo: %w", err)
	}
	return abs, os.WriteFile(marker, nil, 0o644)
}

func absolute(dir string) (string, error) {
	if len(dir) > 0 && dir[0] == '/' {
		return dir, nil
	}
	wd, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the current directory: %w", err)
	}
	return wd + "/" + dir, nil
}

func printSite(s *harness.Site) {
	fmt.Println("\nEverything runs:")
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	for _, name := range harness.All() {
		fmt.Fprintf(w, "  %s\t%s\tlog %s\n", name, s.URL(name), s.Proc(name).Log)
	}
	w.Flush()
	fmt.Printf(`
The querier, as a page and as a Prometheus data source for Grafana:

  %[1]s

Each target once, although a pair of Prometheus servers scrapes it:

  curl -s '%[1]s/api/v1/query' --data-urlencode 'query=count by (cluster) (up{job="node"})'

Ctrl-C ends it.
`, s.URL("query"))
}
