//go:build !linux || !amd64

package harness

import "time"

// SetClock is implemented for linux/amd64.
func (p *Process) SetClock(time.Duration) error { return ErrNoClock }
