package main

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"time"

	"github.com/hindsight-io/hindsight/test/e2e/harness"
)

// replicas asks for the HA pair as one series each: every sample is one of a replica, and
// there is one wherever both replicas have one.
func (r *run) replicas(from, to int64) (outcome, error) {
	ledgers := r.of("ha")
	var before []window
	for _, l := range ledgers {
		before = append(before, l.snapshot(from, to))
	}
	query := fmt.Sprintf(`{__name__=~"soak_.*"}[%dms]`, to-from)
	ans, err := r.site.api("ha").Instant(query, time.UnixMilli(to))
	if err != nil {
		return failed, nil //nolint:nilerr // counted
	}
	own := make([][]harness.Series, len(ledgers))
	for _, s := range ans.Series {
		if s.Labels["tenant_id"] != "ha" || s.Labels["replica"] != "" {
			return complete, fmt.Errorf("I3: the answer to tenant ha has a series %v", s.Labels)
		}
		for k, l := range ledgers {
			part := harness.Series{Labels: s.Labels}
			for _, x := range s.Samples {
				if (int64(x.T*1000+0.5)-ledgers[0].base)%l.step == l.base-ledgers[0].base {
					part.Samples = append(part.Samples, x)
				}
			}
			own[k] = append(own[k], part)
		}
		if n := len(own[0][len(own[0])-1].Samples) + len(own[1][len(own[1])-1].Samples); n != len(s.Samples) {
			return complete, fmt.Errorf("I2: %d samples of %s are of neither replica", len(s.Samples)-n, s.Key())
		}
	}
	var v [2]verdict
	for k, l := range ledgers {
		if v[k], err = l.compare(before[k], own[k]); err != nil {
			return complete, fmt.Errorf("I2: replicas merged, window from %s to %s: %w", ms(from), ms(to), err)
		}
	}
	if len(ans.Warnings) > 0 {
		return partial, nil
	}
	return complete, r.covered(ledgers, before, v, query, to)
}

// covered says whether the merged replicas have a sample wherever both have one.
func (r *run) covered(ledgers []*ledger, before []window, v [2]verdict, query string, to int64) error {
	first := max(before[0].first, before[1].first)
	at := func(k, which, i int) bool {
		i -= before[k].first
		return i < len(v[k].got[which]) && v[k].got[which][i]
	}
	for which := range before[0].state {
		for i := first; i < before[0].first+len(before[0].state[which]) && i < before[1].first+len(before[1].state[which]); i++ {
			both := before[0].state[which][i-before[0].first] == acked && before[1].state[which][i-before[1].first] == acked
			if both && !at(0, which, i) && !at(1, which, i) {
				l := ledgers[0]
				return fmt.Errorf("I1 or I8: the answer to %s at %s for tenant ha, replicas merged, has no warning and lacks %v at %s of both replicas",
					query, ms(to), l.labels(l.series[which], i), ms(l.time(i)))
			}
		}
	}
	return nil
}

// exposition is a line of a gauge of a page of federation.
var exposition = regexp.MustCompile(`^soak_gauge\{.*owner="([^"]*)".*series="(\d+)".*\} (\S+) (\d+)$`)

// federate asks for the present samples. An answer is complete, because requests for
// federation that would be partial fail.
func (r *run) federate(tenant string) (outcome, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	l := r.of("live")[0]
	// The answer is of the present, and a sample may be ahead of it by a part of a step.
	newest := min(l.head()-1, int((time.Now().UnixMilli()-l.base)/l.step))
	fresh := l.time(newest) > time.Now().Add(-4*time.Minute).UnixMilli() && l.time(newest) > r.present.Load() && newest > 0
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.site.url("query")+"/federate?match[]="+url.QueryEscape(`{__name__=~"soak_.*"}`), nil)
	if err != nil {
		return failed, fmt.Errorf("make a request: %w", err)
	}
	req.Header.Set("Thanos-Tenant", tenant)
	resp, err := r.site.client.Do(req)
	if err != nil {
		return failed, nil //nolint:nilerr // counted
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return failed, nil
	}
	seen := 0
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		m := exposition.FindStringSubmatch(lines.Text())
		if m == nil {
			continue
		}
		t, err := strconv.ParseInt(m[4], 10, 64)
		if err != nil || m[1] != tenant || tenant != "live" {
			return complete, fmt.Errorf("I3: federation for tenant %s has %s", tenant, lines.Text())
		}
		which, err := l.find(func(n string) string {
			return map[string]string{"__name__": "soak_gauge", "owner": m[1], "series": m[2]}[n]
		})
		if err != nil {
			return complete, fmt.Errorf("I2: federation: %w", err)
		}
		i, err := l.sample(which, "", harness.Sample{T: float64(t) / 1000, V: m[3]})
		if err != nil {
			return complete, fmt.Errorf("I2: federation: %s: %w", lines.Text(), err)
		}
		if i < newest {
			return complete, fmt.Errorf("I1 or I8: federation has %s, and the sample at %s was acknowledged before", lines.Text(), ms(l.time(newest)))
		}
		seen++
	}
	if lines.Err() != nil {
		return failed, nil
	}
	gauges := 0
	for _, s := range l.series {
		if s.kind == gauge {
			gauges++
		}
	}
	if tenant == "live" && fresh && seen != gauges {
		return complete, fmt.Errorf("I1 or I8: federation for tenant live has %d gauges, not %d", seen, gauges)
	}
	return complete, nil
}
