package replicate

import (
	"math/rand/v2"
	"time"
)

// backoff says when a peer that failed may be tried again. It is pure but for
// the jitter, and belongs to whoever holds its lock.
type backoff struct {
	first, most time.Duration
	failures    int
	until       time.Time
}

// open says that the peer must be left alone now.
func (b *backoff) open(now time.Time) bool { return now.Before(b.until) }

// failed notes a failure: the pause doubles with each in a row, with jitter so
// that several senders do not come back at once.
func (b *backoff) failed(now time.Time) {
	pause := b.most
	if b.failures < 16 {
		pause = min(b.most, b.first<<b.failures)
	}
	b.failures++
	b.until = now.Add(pause/2 + rand.N(pause/2+1))
}

// succeeded ends the pause.
func (b *backoff) succeeded() { b.failures, b.until = 0, time.Time{} }
