package replicate

import (
	"math/rand/v2"
	"time"
)

// backoff computes when a failed peer may be tried again. It is pure except for
// the jitter. The caller holds the lock of its owner.
type backoff struct {
	first, most time.Duration
	failures    int
	until       time.Time
}

// open reports whether the peer is not to be tried at the time now.
func (b *backoff) open(now time.Time) bool { return now.Before(b.until) }

// failed records a failure. The pause doubles with each failure in a row and has
// jitter, so that several senders do not retry at the same time.
func (b *backoff) failed(now time.Time) {
	pause := b.most
	if b.failures < 16 {
		pause = min(b.most, b.first<<b.failures)
	}
	b.failures++
	b.until = now.Add(pause/2 + rand.N(pause/2+1))
}

// succeeded resets the backoff.
func (b *backoff) succeeded() { b.failures, b.until = 0, time.Time{} }
