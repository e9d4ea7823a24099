package httpserver

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// unacknowledged is how many bytes the kernel holds that the other side has not
// acknowledged: less of them is progress, also while no more fit.
func unacknowledged(c net.Conn) (n int, known bool) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return -1, false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return -1, false
	}
	n = -1
	err = raw.Control(func(fd uintptr) {
		if v, err := unix.IoctlGetInt(int(fd), unix.SIOCOUTQ); err == nil {
			n, known = v, true
		}
	})
	return n, known && err == nil
}
