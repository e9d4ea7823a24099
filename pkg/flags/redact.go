package flags

import (
	"regexp"
	"strings"
)

// redacted replaces a secret.
const redacted = "<REDACTED>"

var (
	// secretKey matches a key of YAML, JSON, a query string or a header whose
	// value is a secret.
	secretKey = regexp.MustCompile(`(?i)(pass|passwd|password|passphrase|secret|token|access[_-]?key|private[_-]?key|api[_-]?key|account[_-]?key|credentials?|authorization|bearer|connection[_-]?string)[a-z_-]*["']?\s*[:=]`)
	// userInfo matches the user information of a URL.
	userInfo = regexp.MustCompile(`://[^/?#\s"'<>]*@`)
	// schemeless matches the user information of a URL that lacks its scheme by mistake.
	schemeless = regexp.MustCompile(`^[^/\s:@"'=]+:[^/\s@"']+@`)
	// secretParam matches a parameter of a URL that holds a secret.
	secretParam = regexp.MustCompile(`(?i)([?&][a-z_-]*(?:pass|secret|token|key|credential|signature|sig)[a-z_-]*=)[^&\s"']*`)
)

// Redact returns the value of a flag as pages and logs may show it. Inline
// configuration (flags that end in "config" or "http-client") is hidden as a
// whole, because any part of it may be a secret; so is every other value that
// names a secret. User information and secret parameters of URLs are hidden
// in place. The name has no dashes in front.
func Redact(name, value string) string {
	if value == "" {
		return ""
	}
	if inlineConfig(name) {
		return redacted
	}
	value = schemeless.ReplaceAllString(RedactText(value), redacted+"@")
	if strings.Contains(value, "\n") || secretKey.MatchString(strings.ReplaceAll(value, redacted, "")) && !strings.Contains(value, "://") {
		return redacted
	}
	return value
}

// RedactText hides the user information and the secret parameters of every URL in a
// text, such as that of an error.
func RedactText(text string) string {
	text = userInfo.ReplaceAllString(text, "://"+redacted+"@")
	return secretParam.ReplaceAllString(text, "${1}"+redacted)
}

// RedactArgs returns a command line as pages and logs may show it; args are not
// changed.
func RedactArgs(args []string) []string {
	out := make([]string, len(args))
	flag := "" // the flag that the next argument belongs to
	for i, a := range args {
		name, value, hasValue := strings.Cut(a, "=")
		switch {
		case strings.HasPrefix(a, "-") && hasValue:
			out[i], flag = name+"="+Redact(strings.TrimLeft(name, "-"), value), ""
		case strings.HasPrefix(a, "-"):
			out[i], flag = a, strings.TrimLeft(a, "-")
		default:
			out[i], flag = Redact(flag, a), ""
		}
	}
	return out
}

// inlineConfig reports whether a flag holds a configuration, not its path.
func inlineConfig(name string) bool {
	if name == "http.config" { // a path
		return false
	}
	return strings.HasSuffix(name, "config") || strings.HasSuffix(name, "http-client")
}
