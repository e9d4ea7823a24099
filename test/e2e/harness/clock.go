package harness

import "errors"

// ErrNoClock says that the clock of a process cannot be set on this system.
var ErrNoClock = errors.New("the clock of another process can be set on linux/amd64 only")
