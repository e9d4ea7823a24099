package tenantlimits

import "testing"

// Every file that Parse accepts has limits for any tenant.
func FuzzParse(f *testing.F) {
	f.Add([]byte("write:\n  global: {max_concurrency: 30}\n  default: {request: {size_bytes_limit: 1}, head_series_limit: 2}\n  tenants: {a: {samples_per_second_limit: 3}}\n"))
	f.Add([]byte("write: {default: {label_names_limit: -1}, tenants: {\"../x\": {}}}"))
	f.Add([]byte("a: &a [*a]"))
	f.Fuzz(func(t *testing.T, content []byte) {
		c, err := Parse(content)
		if err != nil {
			return
		}
		l := New(c)
		for _, id := range []string{"a", "", "b"} {
			_ = l.For(id)
			_ = l.Request(id, 1, 1)
		}
		done, err := l.Enter(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		done()
	})
}
