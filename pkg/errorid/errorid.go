package errorid

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"
)

// ID names a kind of error. The empty one is none.
type ID string

// String returns the id as text.
func (id ID) String() string { return string(id) }

// identified is an error, or a reason, that knows its id.
type identified interface{ ErrorID() ID }

// withID is an error with an id. Its text is that of err.
type withID struct {
	err error
	id  ID
}

func (e *withID) Error() string { return e.err.Error() }

// Unwrap returns the error without the id.
func (e *withID) Unwrap() error { return e.err }

// ErrorID returns the id.
func (e *withID) ErrorID() ID { return e.id }

// With returns err with the id. Nil stays nil.
func With(id ID, err error) error {
	if err == nil {
		return nil
	}
	return &withID{err: err, id: id}
}

// Sentinel returns a new error that differs from all others, for errors.Is.
func Sentinel(id ID, text string) error { return With(id, errors.New(text)) }

// Of returns the id of err, which is that of the most specific error that err wraps: an
// id of a kind that holds many causes, such as Invalid, gives way to the one of the cause. It
// is empty for nil, and for errors that nothing is known of.
func Of(err error) ID {
	if err == nil {
		return ""
	}
	var general ID
	if id := specific(err, &general); id != "" {
		return id
	}
	if id := ofSystem(err); id != "" {
		return id
	}
	return general
}

// specific returns the first id in the tree of err, outermost first, that is not general,
// and sets general to the first of the others.
func specific(err error, general *ID) ID {
	for err != nil {
		if x, ok := err.(identified); ok {
			switch id := x.ErrorID(); {
			case id == "":
			case !id.general():
				return id
			case *general == "":
				*general = id
			}
		}
		switch x := err.(type) {
		case interface{ Unwrap() error }:
			err = x.Unwrap()
		case interface{ Unwrap() []error }:
			for _, e := range x.Unwrap() {
				if id := specific(e, general); id != "" {
					return id
				}
			}
			return ""
		default:
			return ""
		}
	}
	return ""
}

// ofSystem returns the id of the errors of the operating system, the network and contexts.
func ofSystem(err error) ID {
	var (
		dns       *net.DNSError
		authority x509.UnknownAuthorityError
		host      x509.HostnameError
		invalid   x509.CertificateInvalidError
		alert     tls.AlertError
		record    tls.RecordHeaderError
	)
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return DiskFull
	case errors.Is(err, syscall.EROFS):
		return DiskReadOnly
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return OpenFiles
	case errors.Is(err, syscall.EADDRINUSE):
		return AddressInUse
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ECONNRESET),
		errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return Unreachable
	case errors.As(err, &dns):
		return DNS
	case errors.As(err, &authority), errors.As(err, &host), errors.As(err, &invalid), errors.As(err, &alert), errors.As(err, &record):
		return TLS
	case errors.Is(err, fs.ErrPermission):
		return FilePermission
	case errors.Is(err, fs.ErrNotExist):
		return FileMissing
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return Timeout
	case errors.Is(err, context.Canceled):
		return Canceled
	}
	return ""
}

// OfValue returns the id of an error or of a reason, the empty one for other values.
func OfValue(v any) ID {
	switch x := v.(type) {
	case error:
		return Of(x)
	case identified:
		return x.ErrorID()
	}
	return ""
}

// prefix begins every id, and maxLength bounds the bytes of one.
const (
	prefix    = "hs-"
	maxLength = 64
)

// Text returns the text of an error for users: with the id at its end, in brackets, unless
// it ends with one.
func Text(text string, id ID) string {
	if _, has := Split(text); has != "" || id == "" {
		return text
	}
	return text + " [" + string(id) + "]"
}

// Split takes the id off the end of a text. The id is empty where the text has none. It may
// be one that this version does not know, as the text may come from another process; it is
// safe in headers and logs.
func Split(text string) (string, ID) {
	rest, ok := strings.CutSuffix(text, "]")
	if !ok {
		return text, ""
	}
	at := strings.LastIndex(rest, " ["+prefix)
	if at < 0 {
		return text, ""
	}
	id := rest[at+2:]
	if len(id) > maxLength {
		return text, ""
	}
	for i := range len(id) {
		if c := id[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return text, ""
		}
	}
	return rest[:at], ID(id)
}

// TextOf returns the text of an error that leaves the process, with its id, which is that
// of failures of the server where nothing is known.
func TextOf(err error) string {
	id := Of(err)
	if id == "" {
		id = Internal
	}
	return Text(err.Error(), id)
}

// stripped is an error whose text had an id at its end.
type stripped struct {
	withID
	text string
}

func (e *stripped) Error() string { return e.text }

// Strip returns err with the id that its text ends with as its id, and without it in the
// text: err is the answer of another process. It returns err where there is none.
func Strip(err error) error {
	if err == nil {
		return nil
	}
	text, id := Split(err.Error())
	if id == "" {
		return err
	}
	return &stripped{withID{err, id}, text}
}

// Received returns the error of a text that another process sent, with the id that the
// text ends with.
func Received(text string) error {
	text, id := Split(text)
	if id == "" {
		return errors.New(text)
	}
	return Sentinel(id, text)
}
