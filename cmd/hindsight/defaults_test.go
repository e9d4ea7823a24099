package main

import (
	"fmt"
	"reflect"
	"testing"

	"github.com/alecthomas/kingpin/v2"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/compact"
	"github.com/hindsight-io/hindsight/pkg/flags"
	"github.com/hindsight-io/hindsight/pkg/query"
	"github.com/hindsight-io/hindsight/pkg/receive"
	"github.com/hindsight-io/hindsight/pkg/store"
)

// "all" takes the defaults of the roles from DefaultConfig, a role of its own from
// its flags.
func TestDefaultConfig_EqualsTheDefaultsOfFlags(t *testing.T) {
	parse := func(register func(flags.Registrar)) {
		t.Helper()
		app := kingpin.New("role", "").Terminate(nil)
		register(app)
		_, err := app.Parse(nil)
		require.NoError(t, err)
	}
	var (
		s store.Config
		c compact.Config
		q query.Config
		r receive.Config
	)
	parse(s.RegisterFlags)
	parse(c.RegisterFlags)
	parse(q.RegisterFlags)
	parse(r.RegisterFlags)
	// "all" has one HTTP listener, which serves writes too.
	require.Equal(t, "0.0.0.0:19291", r.RemoteWriteAddress)
	require.Equal(t, "0.0.0.0:19391", r.CapnProtoAddress)
	r.RemoteWriteAddress, r.CapnProtoAddress = "", ""
	n := 0
	compare := func(role string, flags, code any) {
		n += compareFields(t, role, reflect.ValueOf(flags).Elem(), reflect.ValueOf(code).Elem())
	}
	sd, cd, qd, rd := store.DefaultConfig(), compact.DefaultConfig(), query.DefaultConfig(), receive.DefaultConfig()
	compare("store", &s, &sd)
	compare("compact", &c, &cd)
	compare("query", &q, &qd)
	compare("receive", &r, &rd)
	require.Greater(t, n, 150, "fields are not recognised")
}

// compareFields compares the exported fields of two structs, and returns how many.
// Values of package flags have no exported fields; they are compared by their text.
func compareFields(t *testing.T, name string, byFlags, byCode reflect.Value) (n int) {
	if text, ok := byFlags.Addr().Interface().(fmt.Stringer); ok {
		if want := byCode.Addr().Interface().(fmt.Stringer).String(); text.String() != want {
			t.Errorf("%s: the flag says %s, DefaultConfig %s", name, text, want)
		}
		return 1
	}
	if byFlags.Type() == reflect.TypeFor[flags.PathOrContent]() {
		return 0 // no default
	}
	if byFlags.Kind() != reflect.Struct {
		a, b := byFlags.Interface(), byCode.Interface()
		if !reflect.DeepEqual(a, b) && (byFlags.Kind() != reflect.Slice || byFlags.Len()+byCode.Len() > 0) {
			t.Errorf("%s: the flag says %v, DefaultConfig %v", name, a, b)
		}
		return 1
	}
	for i := range byFlags.NumField() {
		if f := byFlags.Type().Field(i); f.IsExported() {
			n += compareFields(t, name+"."+f.Name, byFlags.Field(i), byCode.Field(i))
		}
	}
	return n
}
