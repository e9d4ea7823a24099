package flags

import "strings"

// ignoredHelp begins the help of each flag that is accepted and not used.
const ignoredHelp = "Accepted for manifests; changes nothing"

// Ignored returns the help of a flag that is accepted for manifests of Thanos and has
// no effect. reason is a clause without a full stop; it may be empty.
func Ignored(reason string) string {
	if reason == "" {
		return ignoredHelp + "."
	}
	return ignoredHelp + ": " + reason + "."
}

// IsIgnored reports whether help is that of a flag without effect, with its reason.
func IsIgnored(help string) (reason string, ignored bool) {
	rest, ignored := strings.CutPrefix(help, ignoredHelp)
	return strings.Trim(rest, ":. "), ignored
}
