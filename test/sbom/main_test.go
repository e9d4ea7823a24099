package main

import (
	"io"
	"runtime/debug"

	"testing"

	"github.com/stretchr/testify/require"
)

func TestBill_ListsEachLinkedModule(t *testing.T) {
	info, err := debug.ParseBuildInfo(`path	example.org/program/cmd/x
path	example.org/program/cmd/x
mod	example.org/program	(devel)	
dep	example.org/lib	v1.2.3+incompatible	h1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=
dep	example.org/old	v1.0.0	h1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=
=>	example.org/fork	v1.0.1	h1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=
build	-ldflags=-w
build	GOOS=linux
build	vcs.revision=abc
`)
	require.NoError(t, err)
	info.GoVersion = "go1.26.1" // the linker keeps it apart
	d := bill(info)
	require.Equal(t, []property{{"go:build:GOOS", "linux"}, {"go:build:vcs.revision", "abc"}}, d.Metadata.Component.Properties)
	var refs []string
	for _, c := range d.Components {
		refs = append(refs, c.Ref)
	}
	require.Equal(t, []string{
		"pkg:golang/std@1.26.1", "pkg:golang/example.org/lib@v1.2.3%2Bincompatible", "pkg:golang/example.org/fork@v1.0.1",
	}, refs)
	require.Equal(t, "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f", d.Components[1].Properties[0].Value)
	require.Empty(t, d.Components[0].Properties)
}

func TestRun_NamesAFileThatIsNoBinary(t *testing.T) {
	require.ErrorContains(t, run([]string{"main.go"}, io.Discard), "main.go")
	require.Error(t, run(nil, io.Discard))
}
