package compact

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/compact/plan"
	"github.com/hindsight-io/hindsight/pkg/flags"
)

// retentionFile is the content of --retention.config.
type retentionFile struct {
	// TenantLabel is the external label that names the tenant.
	TenantLabel string          `yaml:"tenant_label"`
	Rules       []retentionRule `yaml:"rules"`
}

// retentionRule is one rule of the file. Durations that are not set are those of the
// flags.
type retentionRule struct {
	Name   string `yaml:"name"`
	Tenant string `yaml:"tenant"`
	Match  string `yaml:"match"`
	Raw    string `yaml:"raw"`
	FiveM  string `yaml:"5m"`
	OneH   string `yaml:"1h"`
}

// Bounds of the file: each block is compared with each rule.
const (
	maxRetentionRules = 1000
	maxRulePattern    = 4 << 10
)

// ParseRetentionRules reads the content of --retention.config. Errors name the rule.
func ParseRetentionRules(content []byte) ([]plan.RetentionRule, error) {
	f := retentionFile{TenantLabel: "tenant_id"}
	if err := flags.DecodeYAML(content, &f); err != nil {
		return nil, err
	}
	if len(f.Rules) > maxRetentionRules {
		return nil, fmt.Errorf("%d rules, more than %d", len(f.Rules), maxRetentionRules)
	}
	out := make([]plan.RetentionRule, 0, len(f.Rules))
	for i, r := range f.Rules {
		if r.Name == "" {
			r.Name = fmt.Sprintf("rule %d", i+1)
		}
		rule, err := r.parse(f.TenantLabel)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", r.Name, err)
		}
		out = append(out, rule)
	}
	return out, nil
}

// parse checks a rule and makes the planner's of it.
func (r *retentionRule) parse(tenantLabel string) (plan.RetentionRule, error) {
	out := plan.RetentionRule{Name: r.Name, Retention: map[int64]time.Duration{}}
	if r.Tenant == "" && r.Match == "" {
		return out, errors.New("it has neither tenant nor match; what no rule matches has the retention of the flags")
	}
	if r.Tenant != "" {
		m, err := labels.NewMatcher(labels.MatchEqual, tenantLabel, r.Tenant)
		if err != nil || !model.UTF8Validation.IsValidLabelName(tenantLabel) {
			return out, fmt.Errorf("tenant_label %q is not a label name", tenantLabel)
		}
		out.Matchers = append(out.Matchers, m)
	}
	if len(r.Match) > maxRulePattern {
		return out, fmt.Errorf("match is longer than %d bytes", maxRulePattern)
	}
	if r.Match != "" {
		ms, err := parser.NewParser(parser.Options{}).ParseMetricSelector(r.Match)
		if err != nil {
			return out, fmt.Errorf("match is not a series selector: %w", err)
		}
		out.Matchers = append(out.Matchers, ms...)
	}
	for key, d := range map[string]struct {
		resolution int64
		text       string
	}{"raw": {block.ResolutionRaw, r.Raw}, "5m": {block.Resolution5m, r.FiveM}, "1h": {block.Resolution1h, r.OneH}} {
		if d.text == "" {
			continue
		}
		v, err := model.ParseDuration(d.text)
		if err != nil {
			return out, fmt.Errorf("%s: %w (write a duration such as 15d, or 0d for ever)", key, err)
		}
		out.Retention[d.resolution] = time.Duration(v)
	}
	if len(out.Retention) == 0 {
		return out, errors.New("it sets none of raw, 5m and 1h")
	}
	return out, nil
}

// readRetention reads the rules of the configuration. Errors are marked with
// flags.Invalid.
func (c *Config) readRetention() ([]plan.RetentionRule, error) {
	content, err := c.Retention.Content()
	if err != nil || len(content) == 0 {
		return nil, err
	}
	rules, err := ParseRetentionRules(content)
	if err != nil {
		return nil, flags.Invalid(fmt.Errorf("retention rules %s: %w", c.Retention.Source(), err))
	}
	p := c.policy()
	p.Rules = rules
	if err := p.Validate(); err != nil {
		return nil, flags.Invalid(fmt.Errorf("retention rules %s: %w", c.Retention.Source(), err))
	}
	return rules, nil
}

// Reload reads --retention.config again. An invalid version is an error, and the last
// valid one stays in use.
func (c *Compactor) Reload(context.Context) error { return c.loadRules() }

func (c *Compactor) loadRules() error {
	rules, err := c.cfg.readRetention()
	if err != nil {
		return err
	}
	c.rules.Store(&rules)
	return nil
}
