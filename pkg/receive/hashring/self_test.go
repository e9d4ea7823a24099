package hashring

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/stretchr/testify/require"
)

// The arguments of "load" describe the host and DNS, its input is the hashring file.
func TestFindSelf(t *testing.T) {
	datadriven.RunTest(t, "testdata/load", func(t *testing.T, d *datadriven.TestData) string {
		host, resolved := Host{}, map[string][]netip.Addr{}
		opts := Options{Algorithm: Ketama, Replicas: 1}
		for _, arg := range d.CmdArgs {
			switch arg.Key {
			case "name":
				host.Name = arg.Vals[0]
			case "listen":
				host.Listen = arg.Vals[0]
			case "write":
				host.Write = arg.Vals[0]
			case "own":
				host.Addresses = addresses(t, arg.Vals)
			case "given":
				host.Given = arg.Vals[0]
			case "dns":
				name, ips, _ := strings.Cut(arg.Vals[0], "/")
				resolved[name] = addresses(t, strings.Split(ips, "/"))
			case "copies":
				arg.Scan(t, 0, &opts.Replicas)
			case "algorithm":
				opts.Algorithm = Algorithm(arg.Vals[0])
			default:
				d.Fatalf(t, "unknown argument %s", arg.Key)
			}
		}
		text, err := load(d.Input, opts, host, resolved)
		if err != nil {
			return "refused: " + err.Error() + "\n"
		}
		return text
	})
}

func load(content string, opts Options, host Host, resolved map[string][]netip.Addr) (string, error) {
	specs, err := Parse([]byte(content))
	if err != nil {
		return "", err
	}
	if _, err := New(specs, opts); err != nil {
		return "", err
	}
	self, err := FindSelf(specs, host, resolved)
	switch {
	case err != nil:
		return "", err
	case self.Address != "" && self.Note != "":
		return "", errors.New("BUG: a node that finds itself has nothing to note")
	case self.Address != "":
		return "is " + self.Address + "\n", nil
	case self.Note != "":
		return "only routes; " + self.Note + "\n", nil
	}
	return "only routes\n", nil
}

func addresses(t *testing.T, texts []string) (out []netip.Addr) {
	for _, text := range texts {
		ip, err := netip.ParseAddr(text)
		require.NoError(t, err)
		out = append(out, ip)
	}
	return out
}
