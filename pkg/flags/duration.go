package flags

import (
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/common/model"
)

// Duration is a Prometheus duration: "15d", "2h30m", "0s".
type Duration model.Duration

// Set parses s.
func (d *Duration) Set(s string) error {
	v, err := model.ParseDuration(s)
	if err != nil {
		return fmt.Errorf("%w (write a number with a unit of ms, s, m, h, d, w or y, such as 2h or 15d)", err)
	}
	*d = Duration(v)
	return nil
}

func (d *Duration) String() string { return model.Duration(*d).String() }

// Duration returns the value as the standard library's type.
func (d Duration) Duration() time.Duration { return time.Duration(d) }

// TimeOrDuration is a moment, given absolutely (RFC 3339) or as a Prometheus
// duration from now, which may be negative: "-6h" is six hours ago.
type TimeOrDuration struct {
	at  *time.Time
	dur time.Duration
	set bool
}

// TimeAt returns a moment that is given absolutely.
func TimeAt(at time.Time) TimeOrDuration { return TimeOrDuration{at: &at, set: true} }

// Set parses s.
func (t *TimeOrDuration) Set(s string) error {
	if at, err := time.Parse(time.RFC3339, s); err == nil {
		*t = TimeOrDuration{at: &at, set: true}
		return nil
	}
	raw, sign := s, time.Duration(1)
	if rest, ok := strings.CutPrefix(s, "-"); ok {
		raw, sign = rest, -1
	}
	d, err := model.ParseDuration(raw)
	if err != nil {
		return fmt.Errorf("%q is neither a time such as 2026-01-02T15:04:05Z nor a duration such as -6h", s)
	}
	*t = TimeOrDuration{dur: sign * time.Duration(d), set: true}
	return nil
}

func (t *TimeOrDuration) String() string {
	switch {
	case t.at != nil:
		return t.at.Format(time.RFC3339)
	case t.set:
		if t.dur < 0 {
			return "-" + model.Duration(-t.dur).String()
		}
		return model.Duration(t.dur).String()
	}
	return ""
}

// Relative reports whether the moment moves with the clock.
func (t *TimeOrDuration) Relative() bool { return t.at == nil }

// Millis returns the moment in Unix milliseconds, counted from now when it was
// given as a duration.
func (t *TimeOrDuration) Millis(now time.Time) int64 {
	if t.at != nil {
		return t.at.UnixMilli()
	}
	return now.Add(t.dur).UnixMilli()
}
