package webconfig

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"sync"

	"golang.org/x/crypto/bcrypt"

	"github.com/hindsight-io/hindsight/pkg/errorid"
)

// Guard admits requests with a known user and password, where users are configured, and
// sets the configured headers.
func (f *File) Guard(next http.Handler) http.Handler {
	if f == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s := f.current.Get()
		if s.limiter != nil && !s.limiter.Allow() {
			errorid.Answer(w, http.StatusTooManyRequests, errorid.TooManyRequests, http.StatusText(http.StatusTooManyRequests))
			return
		}
		for k, v := range s.config.HTTPConfig.Header {
			w.Header().Set(k, v)
		}
		if len(s.config.Users) > 0 {
			if text := f.refusal(s, r); text != "" {
				w.Header().Set("WWW-Authenticate", "Basic")
				errorid.Answer(w, http.StatusUnauthorized, errorid.Unauthorized, text)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// unknownUser is the hash that the passwords of unknown users are compared with, so
// that the time of an answer does not reveal the names of users.
const unknownUser = "$2a$10$7EqJtq98hPqEX7fNZaFWoOa8h8YQkUe3bWq5m0jMmF7V7mZ1Jq3nK"

// refusal returns why a request is not admitted, "" when it is. The text of an unknown
// user is that of a wrong password.
func (f *File) refusal(s *state, r *http.Request) string {
	user, password, ok := r.BasicAuth()
	if !ok {
		return "unauthorized: send user and password by basic auth"
	}
	hash, known := s.config.Users[user]
	if !known {
		hash = unknownUser
	}
	if !f.checked.match(user, string(hash), password) || !known {
		return "unauthorized: unknown user or wrong password"
	}
	return ""
}

// maxChecked bounds the cached results of password checks, of each kind.
const maxChecked = 256

// checkedPasswords holds results of password checks by a hash of user and password. The
// zero value is ready to use.
type checkedPasswords struct {
	// comparing admits one bcrypt at a time: each takes a core for long. Known
	// passwords do not wait for it.
	comparing sync.Mutex

	mu sync.Mutex
	// right and wrong are apart, so that many wrong passwords displace no right one.
	right, wrong map[[sha256.Size]byte]bool
}

// match reports whether hash is that of the password.
func (c *checkedPasswords) match(user, hash, password string) bool {
	key := sha256.Sum256(fmt.Appendf(nil, "%q %q %q", user, hash, password))
	if right, seen := c.get(key); seen {
		return right
	}
	c.comparing.Lock()
	defer c.comparing.Unlock()
	if right, seen := c.get(key); seen { // another request was first
		return right
	}
	right := bcrypt.CompareHashAndPassword([]byte(hash), []byte(password)) == nil
	c.put(key, right)
	return right
}

func (c *checkedPasswords) get(key [sha256.Size]byte) (right, seen bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.right[key], c.right[key] || c.wrong[key]
}

func (c *checkedPasswords) put(key [sha256.Size]byte, right bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	results := &c.wrong
	if right {
		results = &c.right
	}
	if *results == nil || len(*results) >= maxChecked {
		*results = map[[sha256.Size]byte]bool{}
	}
	(*results)[key] = true
}
