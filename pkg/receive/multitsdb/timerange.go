package multitsdb

import (
	"errors"
	"fmt"
	"time"

	"github.com/hindsight-io/hindsight/pkg/reason"
)

// Times outside the years 0 to 9999 are refused, whatever the windows allow: they
// come from a zero value, an overflow or another unit, and arithmetic with them
// overflows.
const (
	earliestTime = -62_167_219_200_000
	latestTime   = 253_402_300_799_999
)

var (
	errFuture = errors.New("too far in the future")
	errPast   = errors.New("too far in the past")
)

// timeRange is which times are accepted, both ends included, in milliseconds. A
// head that begins with a wrong time cannot be written to blocks, or takes no
// other sample any more.
type timeRange struct{ min, max int64 }

// acceptable returns the current range.
func (c *Config) acceptable(now time.Time) timeRange {
	r := timeRange{earliestTime, latestTime}
	if c.FutureWindow > 0 {
		r.max = now.Add(c.FutureWindow).UnixMilli()
	}
	if c.PastWindow > 0 {
		r.min = now.Add(-c.PastWindow).UnixMilli()
	}
	return r
}

// check returns nil, errFuture or errPast.
func (r timeRange) check(t int64) error {
	switch {
	case t > r.max:
		return errFuture
	case t < r.min:
		return errPast
	}
	return nil
}

// CheckTime returns a function that returns an error, and its reason, when a time
// in Unix milliseconds is not accepted for a sample.
func (d *DB) CheckTime(now time.Time) func(ms int64) (reason.Reason, error) {
	r := d.cfg.acceptable(now)
	return func(ms int64) (reason.Reason, error) {
		if err := r.check(ms); err != nil {
			_, why := classify(err)
			return why, errors.New(d.cfg.outside(err, ms))
		}
		return "", nil
	}
}

// outside describes a time that is not accepted.
func (c *Config) outside(err error, t int64) string {
	limit, flag := c.FutureWindow, "--tsdb.too-far-in-future.time-window"
	if errors.Is(err, errPast) {
		limit, flag = c.PastWindow, "--tsdb.too-far-in-past.time-window"
	}
	if limit <= 0 {
		return fmt.Sprintf("the time %s is %s: it is not in the years 0 to 9999", timeText(t), err)
	}
	return fmt.Sprintf("the time %s is %s: it differs from the clock by more than %s (%s)%s", timeText(t), err, limit, flag, otherUnit(t))
}

// otherUnit guesses that a time is in another unit than milliseconds.
func otherUnit(t int64) string {
	const from, to = 946_684_800, 4_102_444_800 // the years 2000 to 2100, in seconds
	for _, u := range []struct {
		name string
		per  int64 // second
	}{{"seconds", 1}, {"microseconds", 1e6}, {"nanoseconds", 1e9}} {
		if t >= from*u.per && t/u.per < to {
			return "; it looks like " + u.name + " instead of milliseconds"
		}
	}
	return ""
}

// startTime returns the start timestamp to store with a sample at t: 0, unknown,
// for one that cannot be, as it only adds to a sample that is right.
func startTime(st, t int64) int64 {
	if st <= 0 || st > t {
		return 0
	}
	return st
}

// timeText formats a time; those outside the years 0 to 9999 are numbers.
func timeText(t int64) string {
	if t < earliestTime || t > latestTime {
		return fmt.Sprintf("%d ms", t)
	}
	return time.UnixMilli(t).UTC().Format("2006-01-02T15:04:05.000Z")
}
