//go:build !linux || !amd64

package harness

import "time"

// SetClock is implemented for linux/amd64.
func (p *Process) SetClock(time.Duration) error { return ErrNoClock }

// Skip is implemented for linux/amd64.
func (p *Process) Skip(time.Duration) error { return ErrNoClock }

// Break is implemented for linux/amd64.
func (p *Process) Break(string) error { return ErrNoClock }
