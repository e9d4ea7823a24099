package main

import (
	"context"

	"github.com/alecthomas/kingpin/v2"

	"github.com/hindsight-io/hindsight/pkg/flags"
	"github.com/hindsight-io/hindsight/pkg/sizing"
	"github.com/hindsight-io/hindsight/pkg/telemetry"
)

// sizingConfig holds the flags of tools sizing.
type sizingConfig struct {
	telemetry       telemetry.Config
	load            sizing.Load
	interval, local flags.Duration
	raw, five, hour flags.Duration
	downsampling    bool
	output          string
}

// sizingRow is one need.
type sizingRow struct {
	Part     string  `json:"part" yaml:"part"`
	Resource string  `json:"resource" yaml:"resource"`
	Amount   float64 `json:"amount" yaml:"amount"`
	Unit     string  `json:"unit" yaml:"unit"`
	From     string  `json:"from" yaml:"from"`
}

// sizingCommand adds the command that computes sizes.
func sizingCommand(group *kingpin.CmdClause) command {
	cmd := group.Command("sizing", "Computes memory, disk, bucket bytes and CPU of each role from the number of series, with measured figures (docs/sizing.md). It opens no connection.")
	var c sizingConfig
	c.telemetry.RegisterFlags(cmd)
	defaults := sizing.Defaults()
	optional := func(name, help string) *kingpin.FlagClause { return cmd.Flag(name, help).Default(defaults[name]) }
	cmd.Flag("series", "Active series, each series of an HA pair once: sum(prometheus_tsdb_head_series).").Required().Float64Var(&c.load.Series)
	optional("interval", "Interval of the scrapes.").SetValue(&c.interval)
	optional("churn", "Series of a day for each series that is active at one time.").Float64Var(&c.load.Churn)
	optional("sources", "Prometheus servers or HA pairs, or tenants of the receivers.").IntVar(&c.load.Sources)
	optional("replicas", "Servers of an HA pair.").IntVar(&c.load.Replicas)
	optional("receive.nodes", "Nodes of the hashring; 0 means that sidecars ship the blocks.").IntVar(&c.load.ReceiveNodes)
	optional("receive.replication-factor", "Nodes that store each series.").IntVar(&c.load.ReplicationFactor)
	optional("tsdb.retention", "How long a receiver keeps blocks on its disk.").SetValue(&c.local)
	optional("deduplicated", "The compactor merges replicas and the copies of the hashring (--deduplication.replica-label).").BoolVar(&c.load.Merged)
	optional("retention.resolution-raw", "How long the bucket keeps raw data.").SetValue(&c.raw)
	optional("retention.resolution-5m", "How long the bucket keeps 5m data.").SetValue(&c.five)
	optional("retention.resolution-1h", "How long the bucket keeps 1h data.").SetValue(&c.hour)
	optional("downsampling.disable", "The compactor makes neither 5m nor 1h data.").BoolVar(&c.downsampling)
	optional("bytes-per-sample", "Bytes of a raw sample in the chunks of blocks: CHUNK BYTES divided by SAMPLES of tools bucket cost. 0 means the measured figure.").Float64Var(&c.load.BytesPerSample)
	cmd.Flag("output", "Form of the list: table, json or yaml.").Default(outputTable).EnumVar(&c.output, outputTable, outputJSON, outputYAML)
	return command{name: toolsGroup + " sizing", run: c.run}
}

// run computes and prints.
func (c *sizingConfig) run(_ context.Context, s streams) error {
	l := c.load
	l.Interval, l.Local = c.interval.Duration(), c.local.Duration()
	l.Raw, l.FiveMinutes, l.OneHour = c.raw.Duration(), c.five.Duration(), c.hour.Duration()
	if c.downsampling {
		l.FiveMinutes, l.OneHour = 0, 0
	}
	if err := l.Check(); err != nil {
		return flags.Invalid(err)
	}
	rows := []sizingRow{}
	r := report{header: []string{"PART", "RESOURCE", "AMOUNT", "COMPUTED FROM"}}
	for _, n := range sizing.Compute(l, sizing.Measured()) {
		rows = append(rows, sizingRow{Part: n.Part, Resource: n.Resource, Amount: n.Amount, Unit: n.Unit, From: n.From})
		r.cells = append(r.cells, []string{n.Part, n.Resource, n.Text(), n.From})
	}
	r.list = rows
	return r.print(s.out, c.output)
}
