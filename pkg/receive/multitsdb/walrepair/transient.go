package walrepair

import (
	"errors"
	"syscall"
)

// transient says that an error is about the process or the machine and not about
// the content of a file, which may be readable another time.
func transient(err error) bool {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return false
	}
	switch errno {
	case syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.EAGAIN, syscall.EINTR, syscall.EACCES, syscall.EPERM, syscall.EIO, syscall.ESTALE, syscall.ENOSPC, syscall.EROFS:
		return true
	}
	return false
}
