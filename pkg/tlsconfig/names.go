package tlsconfig

import (
	"crypto/tls"
	"errors"
	"fmt"
)

// Version returns the number of a TLS version: 1.0, 1.1, 1.2 or 1.3. Empty is
// 1.3.
func Version(name string) (uint16, error) {
	switch name {
	case "1.0":
		return tls.VersionTLS10, nil
	case "1.1":
		return tls.VersionTLS11, nil
	case "1.2":
		return tls.VersionTLS12, nil
	case "1.3", "":
		return tls.VersionTLS13, nil
	}
	return 0, fmt.Errorf("TLS version %q is not known (choose 1.0, 1.1, 1.2 or 1.3)", name)
}

// cipherSuites returns the numbers of cipher suites by their Go names. Suites
// with known weaknesses are refused.
func cipherSuites(names []string) ([]uint16, error) {
	var out []uint16
	var errs []error
	for _, name := range names {
		found := false
		for _, s := range tls.CipherSuites() {
			if s.Name == name {
				out, found = append(out, s.ID), true
			}
		}
		if !found {
			errs = append(errs, fmt.Errorf("cipher suite %q is not known or not secure", name))
		}
	}
	return out, errors.Join(errs...)
}

// curves returns the numbers of key exchange groups by their Go names.
func curves(names []string) ([]tls.CurveID, error) {
	known := map[string]tls.CurveID{
		"CurveP256": tls.CurveP256, "CurveP384": tls.CurveP384, "CurveP521": tls.CurveP521, "X25519": tls.X25519,
		"X25519MLKEM768": tls.X25519MLKEM768, "SecP256r1MLKEM768": tls.SecP256r1MLKEM768,
		"SecP384r1MLKEM1024": tls.SecP384r1MLKEM1024,
	}
	var out []tls.CurveID
	for _, name := range names {
		id, ok := known[name]
		if !ok {
			return nil, fmt.Errorf("key exchange group %q is not known", name)
		}
		out = append(out, id)
	}
	return out, nil
}
