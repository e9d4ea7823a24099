package flags

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDecodeYAML_ErrorsNameTheLineAndHideTypesAndValues(t *testing.T) {
	type inner struct {
		Password string `yaml:"password"`
		Count    int64  `yaml:"count"`
	}
	type file struct {
		Name  string           `yaml:"name"`
		Inner inner            `yaml:"inner"`
		List  []inner          `yaml:"list"`
		Map   map[string]inner `yaml:"map"`
	}
	f := func(want, content string) {
		t.Helper()
		err := DecodeYAML([]byte(content), &file{})
		require.EqualError(t, err, want)
		require.NotContains(t, err.Error(), "s3cret")
	}
	f(`line 2: unknown key "nmae"`, "name: x\nnmae: y")
	f(`line 1: another kind of value is expected, not text`, "inner: s3cret")
	f(`line 1: a number is expected, not text`, "inner: {count: s3cret}")
	f(`line 1: a list is expected, not text`, "list: s3cret")
	f(`line 1: unknown key "x"; line 1: unknown key "y"`, "inner: {x: 1, y: 2}")
	f(`line 2: mapping key "name" already defined at line 1`, "name: x\nname: y")
	f("unknown anchor referenced (put a value that begins with * in quotes)", "inner: {password: *s3cret}")
	f("line 2: there is a second document; write one only", "name: x\n---\nname: y\n")

	var v file
	require.NoError(t, DecodeYAML([]byte("inner: {password: s3cret, count: 3}"), &v))
	require.Equal(t, inner{Password: "s3cret", Count: 3}, v.Inner)
	require.NoError(t, DecodeYAML(nil, &v))
	require.NoError(t, DecodeYAML([]byte("name: x\n---\n"), &v))
}
