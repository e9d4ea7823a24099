package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// deletePause is the time between two requests to delete a series.
const deletePause = 20 * time.Second

// erase asks to delete one series of a life that is over, again and again until ctx ends, and
// remembers what it asked for. The requests begin to remove samples after a few seconds.
func (r *run) erase(ctx context.Context, rnd *rand.Rand) error {
	for pause(ctx, deletePause) {
		l := r.of([]string{"red", "blue"}[rnd.IntN(2)])[0]
		var shorts []int
		for which, s := range l.series {
			if s.kind == short {
				shorts = append(shorts, which)
			}
		}
		over := l.head()/lifeSteps - 1
		life := rnd.IntN(over)
		if rnd.IntN(2) == 0 {
			life = max(0, over-1-rnd.IntN(6)) // receivers have it still
		}
		which := shorts[rnd.IntN(len(shorts))]
		if err := r.eraseLife(ctx, l, which, life, rnd); err != nil {
			return err
		}
	}
	return nil
}

// eraseLife sends one request until a process has accepted it.
func (r *run) eraseLife(ctx context.Context, l *ledger, which, life int, rnd *rand.Rand) error {
	var at []place
	for i := life * lifeSteps; i < (life+1)*lifeSteps; i++ {
		at = append(at, place{which, i})
	}
	var matchers []string
	for _, x := range l.labels(l.series[which], life*lifeSteps) {
		matchers = append(matchers, fmt.Sprintf("%s=%q", x.Name, x.Value))
	}
	form := url.Values{
		"match[]": {"{" + strings.Join(matchers, ",") + "}"}, "tenant": {l.tenant}, "delay": {"5s"}, "keep": {"24h"},
		"details": {"soak, life " + strconv.Itoa(life)},
	}
	// A request without an answer may have been accepted.
	l.mark(at, doomed)
	targets := []string{"compact-1", "compact-2", "store-1", "store-2"}
	for began := time.Now(); ; {
		target := targets[rnd.IntN(len(targets))]
		code, text, err := r.post(ctx, r.site.url(target)+"/api/v1/admin/tsdb/delete_series", form)
		if err == nil && code == http.StatusOK {
			break
		}
		if code/100 == 4 {
			return fmt.Errorf("I1: %s refused to delete series: %s", target, text)
		}
		if time.Since(began) > patience {
			return fmt.Errorf("I9: no process accepted a request to delete series for %s: %d %s %w", patience, code, text, err)
		}
		if !pause(ctx, 200*time.Millisecond) {
			return nil
		}
	}
	l.mark(at, erased)
	r.count("series deleted", 1)
	r.note("deleted %s of %s", form.Get("match[]"), l.tenant)
	return nil
}

// post sends a form.
func (r *run) post(ctx context.Context, to string, form url.Values) (code int, text string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, strings.NewReader(form.Encode()))
	if err != nil {
		return 0, "", fmt.Errorf("make a request: %w", err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := r.site.client.Do(req)
	if err != nil {
		return 0, "", fmt.Errorf("send a form: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1000))
	return resp.StatusCode, string(body), err
}

// erasedEverywhere checks at the end that no block that counts has a deleted sample.
func (r *run) erasedEverywhere() error {
	live, _ := r.guard.visible()
	r.blocks.mu.Lock()
	defer r.blocks.mu.Unlock()
	for _, m := range live {
		c := r.blocks.contents[m.ULID]
		if c == nil || m.Resolution() != 0 {
			continue
		}
		for which := range c.sets {
			var err error
			c.sets[which].each(func(i int) {
				if err == nil && c.stream.was(place{which, i}) == erased {
					err = fmt.Errorf("I11: block %s (%s) has the deleted sample of %v at %s", m.ULID, describe(m), c.stream.labels(c.stream.series[which], i), ms(c.stream.time(i)))
				}
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}
