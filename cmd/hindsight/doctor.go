package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"go.yaml.in/yaml/v3"

	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/doctor"
	"github.com/hindsight-io/hindsight/pkg/errorid"
	"github.com/hindsight-io/hindsight/pkg/flags"
)

const (
	outputTable = "table"
	outputJSON  = "json"
	outputYAML  = "yaml"
)

// doctorConfig holds the flags of tools doctor.
type doctorConfig struct {
	tool       toolConfig
	output     string
	replicas   []string
	lag        flags.Duration
	forget     flags.Duration
	skew       flags.Duration
	timeout    time.Duration
	endpoints  endpointFlags
	prometheus prometheusFlags
}

// doctorCommand adds the command that finds what is wrong with the sources of a bucket.
func doctorCommand(group *kingpin.CmdClause) command {
	cmd := group.Command("doctor", "Finds what is wrong with the sources of a bucket: equal or changing external labels, replicas that are missing or cannot be deduplicated, sources that ship no more, clocks. Exit code 0: no findings; 1: findings; 2: it could not look.")
	var c doctorConfig
	c.register(cmd)
	return command{name: toolsGroup + " doctor", run: func(ctx context.Context, s streams) error {
		err := c.run(ctx, s)
		if errors.As(err, new(findings)) {
			return err
		}
		if err != nil {
			return exitError{error: err, code: exitUsage}
		}
		return nil
	}}
}

func (c *doctorConfig) register(r flags.Registrar) {
	c.tool.register(r)
	r.Flag("output", "How to print the findings.").Default(outputTable).EnumVar(&c.output, outputTable, outputJSON, outputYAML)
	r.Flag("query.replica-label", "External label in which the replicas of an HA pair differ. Repeatable.").
		Default("replica", "prometheus_replica").StringsVar(&c.replicas)
	r.Flag("max-lag", "Age of the newest data in the bucket above which a source has stopped shipping.").
		Default("6h").SetValue(&c.lag)
	r.Flag("forget", "Age of the newest data above which a source that has stopped is no longer reported.").
		Default("30d").SetValue(&c.forget)
	r.Flag("max-skew", "Difference between the clocks of a source and of the bucket that is reported.").
		Default("30s").SetValue(&c.skew)
	r.Flag("timeout", "How long to wait for each store and for Prometheus.").
		Default("10s").DurationVar(&c.timeout)
	c.endpoints.register(r)
	c.prometheus.register(r)
}

// findings is the error of a run with findings: their number.
type findings int

// ErrorID returns the id of a check that worked.
func (f findings) ErrorID() errorid.ID { return errorid.ProblemsFound }

func (f findings) Error() string { return fmt.Sprintf("findings: %d", int(f)) }

// run reads the bucket and what else is configured, and prints the findings.
func (c *doctorConfig) run(ctx context.Context, s streams) error {
	return c.tool.withBucket(ctx, s, func(ctx context.Context, p *process, bkt bucket.Bucket) error {
		in, err := c.look(ctx, p, bkt)
		if err != nil {
			return err
		}
		found := doctor.Diagnose(in, doctor.Options{
			ReplicaLabels: c.replicas, Lag: c.lag.Duration(), Forget: c.forget.Duration(), Skew: c.skew.Duration(),
		})
		if err := printFindings(s.out, c.output, found); err != nil {
			return err
		}
		if len(found) > 0 {
			return findings(len(found))
		}
		return nil
	})
}

// printFindings writes the findings in a form for people or programs.
func printFindings(w io.Writer, output string, found []doctor.Finding) error {
	list := struct {
		Findings []doctor.Finding `json:"findings" yaml:"findings"`
	}{append([]doctor.Finding{}, found...)}
	switch output {
	case outputJSON:
		e := json.NewEncoder(w)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		return e.Encode(list)
	case outputYAML:
		e := yaml.NewEncoder(w)
		return errors.Join(e.Encode(list), e.Close())
	}
	var b strings.Builder
	for _, f := range found {
		fmt.Fprintf(&b, "%-8s %-18s %s\n         %s\n         to do: %s\n", f.Severity, f.Kind, f.Subject, f.Details, f.Advice)
	}
	if len(found) == 0 {
		b.WriteString("no findings\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}
