package httpserver

import (
	"errors"
	"fmt"
	"net"
	"syscall"

	"github.com/hindsight-io/hindsight/pkg/flags"
)

// Listen opens a TCP listener for the address that a flag gives. An address that
// is in use, not of this machine or not an address at all is the user's mistake.
func Listen(what, flag, address string) (net.Listener, error) {
	lis, err := net.Listen("tcp", address)
	if err == nil {
		return lis, nil
	}
	err = fmt.Errorf("listen for %s on %s %s: %w", what, flag, address, err)
	var addr *net.AddrError
	var dns *net.DNSError
	if errors.As(err, &addr) || errors.As(err, &dns) {
		return nil, flags.Invalid(err)
	}
	for _, mistake := range []error{syscall.EADDRINUSE, syscall.EADDRNOTAVAIL, syscall.EACCES} {
		if errors.Is(err, mistake) {
			return nil, flags.Invalid(err)
		}
	}
	return nil, err
}
