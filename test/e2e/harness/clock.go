package harness

import "errors"

// ErrNoClock says that the clock or the code of a process cannot be changed on this system.
var ErrNoClock = errors.New("the clock and the code of another process can be changed on linux/amd64 only")
