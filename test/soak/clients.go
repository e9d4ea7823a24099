package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/hindsight-io/hindsight/test/e2e/harness"
)

// patience is how long a client sends a batch again until that is a violation.
const patience = 3 * time.Minute

// write sends a stream to the targets until ctx ends: each batch again and again until it
// is acknowledged, as Prometheus does.
func (r *run) write(ctx context.Context, l *ledger, targets []string) error {
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DialContext: r.site.net.dial, IdleConnTimeout: 10 * time.Second}}
	defer client.CloseIdleConnections()
	w := harness.Writer{Header: http.Header{"Thanos-Tenant": {l.tenant}}, Client: client, V2: l.tenant == "blue"}
	tick := time.NewTicker(l.pause)
	defer tick.Stop()
	for turn := 0; ctx.Err() == nil; {
		n := l.head()
		batch, at := l.batch(n, n+l.steps)
		l.mark(at, sent)
		for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
			target := targets[turn%len(targets)]
			w.URL = r.site.writeURL(target)
			code, err := w.Write(batch)
			if err == nil {
				break
			}
			if ctx.Err() != nil {
				return nil
			}
			r.count("write retried", 1)
			turn++
			if code/100 == 4 && code != http.StatusTooManyRequests {
				return fmt.Errorf("I1: %s refused samples of %s for good: %w", target, l.name, err)
			}
			if time.Since(began) > patience {
				return fmt.Errorf("I9: no process accepted a batch of %s for %s: %w", l.name, patience, err)
			}
		}
		l.mark(at, acked)
		l.advance(n + l.steps)
		if turn++; l.replica != "" {
			turn = 0
		}
		if l.present && l.time(n+l.steps) < time.Now().UnixMilli()-1000 {
			continue // it catches up
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	return nil
}

// of are the ledgers whose samples a tenant sees.
func (r *run) of(tenant string) []*ledger {
	return slices.DeleteFunc(slices.Clone(r.ledgers), func(l *ledger) bool { return l.tenant != tenant })
}

// tenants are all tenants.
func tenants() []string { return []string{"red", "blue", "ha", "live"} }

// outcome of a read.
type outcome int

const (
	complete outcome = iota
	partial          // with warnings
	failed
)

// window asks for all samples of a tenant with from < t <= to. Without an error, each
// sample is right; if the outcome is complete, none is missing.
func (r *run) window(tenant string, from, to int64) (outcome, int, error) {
	ledgers := r.of(tenant)
	var before []window
	for _, l := range ledgers {
		before = append(before, l.snapshot(from, to))
	}
	api := r.site.api(tenant)
	api.Params = url.Values{}
	if tenant == "ha" {
		api.Params.Set("dedup", "false")
	}
	query := fmt.Sprintf(`{__name__=~"soak_.*"}[%dms]`, to-from)
	asked := time.Now()
	ans, err := api.Instant(query, time.UnixMilli(to))
	if err != nil {
		r.lastRead(fmt.Sprintf("%s %s: %v", tenant, query, err))
		return failed, 0, nil
	}
	samples := 0
	out := complete
	if len(ans.Warnings) > 0 {
		out = partial
		r.lastRead(fmt.Sprintf("%s %s: warnings %q", tenant, query, ans.Warnings))
	}
	for k, l := range ledgers {
		var own []harness.Series
		for _, s := range ans.Series {
			if s.Labels["tenant_id"] != tenant {
				return out, 0, fmt.Errorf("I3: the answer to tenant %s has a series %v", tenant, s.Labels)
			}
			if s.Labels["replica"] == l.replica {
				own = append(own, s)
			}
		}
		v, err := l.compare(before[k], own)
		if err != nil {
			return out, 0, fmt.Errorf("I2: tenant %s, window from %s to %s, asked at %s: %w", tenant, ms(from), ms(to), asked.Format(timeOfDay), err)
		}
		if v.missing > 0 && out == complete {
			return out, 0, fmt.Errorf("I1 or I8: the answer to %s at %s for tenant %s, asked at %s, has no warning and lacks %d acknowledged samples of %s, such as %s; infos %q",
				query, ms(to), tenant, asked.Format(timeOfDay), v.missing, l.name, v.example, ans.Infos)
		}
		samples += v.samples
		if v.erased > 0 && out == complete {
			out = partial
			r.lastRead(fmt.Sprintf("%s %s has %d deleted samples of %s, such as %s", tenant, query, v.erased, l.name, v.leftover))
		}
	}
	return out, samples, nil
}

// span is the time of a tenant's samples so far. Those of the present are in no block,
// so each lost disk takes a copy away for good.
func (r *run) span(tenant string) (from, to int64) {
	l := r.of(tenant)[0]
	if l.present {
		return max(l.base-1, r.present.Load()), l.time(l.head())
	}
	return l.base - 1, l.time(l.head())
}

// read asks queries of all kinds until ctx ends.
func (r *run) read(ctx context.Context, rnd *rand.Rand) error {
	for ctx.Err() == nil {
		tenant := tenants()[rnd.IntN(len(tenants()))]
		var out outcome
		var err error
		kind := []string{"window", "window", "range", "series", "labels", "federate", "replicas"}[rnd.IntN(7)]
		switch kind {
		case "window":
			from, to := r.part(tenant, rnd)
			_, n := 0, 0
			out, n, err = r.window(tenant, from, to)
			r.count("samples compared", n)
		case "range":
			out, err = r.readRange(tenant, rnd)
		case "series":
			out, err = r.readSeries(tenant, rnd)
		case "labels":
			out, err = r.readLabels(tenant, rnd)
		case "federate":
			out, err = r.federate(tenant)
		case "replicas":
			out, err = r.replicas(r.part("ha", rnd))
		}
		if err != nil {
			return err
		}
		r.count([]string{"read complete", "read partial", "read failed"}[out], 1)
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(100+rnd.IntN(400)) * time.Millisecond):
		}
	}
	return nil
}

// part is a random part of the time of a tenant, more often at its end.
func (r *run) part(tenant string, rnd *rand.Rand) (from, to int64) {
	const hour = 3_600_000
	first, last := r.span(tenant)
	size := int64(1+rnd.IntN(12)) * hour
	if rnd.IntN(2) == 0 {
		return max(first, last-size), last + hour
	}
	from = first + rnd.Int64N(max(1, last-first-size))
	return from, min(from+size, last)
}

// readRange asks for a series at each step, where it must have exactly its samples.
func (r *run) readRange(tenant string, rnd *rand.Rand) (outcome, error) {
	if tenant == "ha" || tenant == "live" {
		tenant = "red"
	}
	l := r.of(tenant)[0]
	from, to := r.part(tenant, rnd)
	from = l.base + (from-l.base)/l.step*l.step + l.step
	to = min(to, l.time(l.head()))
	w := l.snapshot(from-1, to)
	query := `soak_gauge{series="0"}`
	ans, err := r.site.api(tenant).Range(query, time.UnixMilli(from), time.UnixMilli(to), time.Duration(l.step)*time.Millisecond)
	if err != nil {
		return failed, nil //nolint:nilerr // counted
	}
	s := l.series[0]
	got := map[int64]string{}
	for _, one := range ans.Series {
		if one.Labels["owner"] != tenant {
			return complete, fmt.Errorf("I3: the answer to tenant %s has a series %v", tenant, one.Labels)
		}
		for _, x := range one.Samples {
			got[int64(x.T*1000+0.5)] = x.V
		}
	}
	for at, st := range w.state[0] {
		i := w.first + at
		v, ok := got[l.time(i)]
		switch {
		case st == acked && !ok && len(ans.Warnings) == 0:
			return complete, fmt.Errorf("I1 or I8: the answer to the range query %s for tenant %s from %s to %s lacks %s and has no warning", query, tenant, ms(from), ms(to), ms(l.time(i)))
		case st == acked && ok && v != strconv.FormatFloat(s.value(i), 'f', -1, 64) && len(ans.Warnings) == 0:
			return complete, fmt.Errorf("I2: the answer to the range query %s for tenant %s at %s is %s, not %v", query, tenant, ms(l.time(i)), v, s.value(i))
		}
	}
	if len(ans.Warnings) > 0 {
		return partial, nil
	}
	return complete, nil
}

// readSeries asks for the label sets of a time.
func (r *run) readSeries(tenant string, rnd *rand.Rand) (outcome, error) {
	from, to := r.part(tenant, rnd)
	var sets []map[string]string
	err := r.site.api(tenant).JSON("/api/v1/series", r.times(from, to), &sets)
	if err != nil {
		return failed, nil //nolint:nilerr // counted
	}
	l := r.of(tenant)[0]
	for _, set := range sets {
		if set["tenant_id"] != tenant {
			return complete, fmt.Errorf("I3: the series of tenant %s have %v", tenant, set)
		}
		if _, err := l.find(func(n string) string { return set[n] }); err != nil {
			return complete, fmt.Errorf("I2: the series of tenant %s: %w", tenant, err)
		}
	}
	return complete, nil
}

func (r *run) times(from, to int64) url.Values {
	sec := func(t int64) string { return strconv.FormatFloat(float64(t)/1000, 'f', 3, 64) }
	return url.Values{"match[]": {`{__name__=~"soak_.*"}`}, "start": {sec(from)}, "end": {sec(to)}}
}

// readLabels asks for the values of labels.
func (r *run) readLabels(tenant string, rnd *rand.Rand) (outcome, error) {
	from, to := r.part(tenant, rnd)
	for _, name := range []string{"owner", "tenant_id"} {
		var values []string
		if err := r.site.api(tenant).JSON("/api/v1/label/"+name+"/values", r.times(from, to), &values); err != nil {
			return failed, nil //nolint:nilerr // counted
		}
		for _, v := range values {
			if v != tenant {
				return complete, fmt.Errorf("I3: the values of %s for tenant %s are %q", name, tenant, values)
			}
		}
	}
	return complete, nil
}
