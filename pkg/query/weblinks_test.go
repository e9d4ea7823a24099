package query

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/ui"
)

func TestWebLinks(t *testing.T) {
	c := WebConfig{Links: []string{"Compactor=http://compact:10902/x?a=b", " Ring =/receive/ring"}}
	links, err := c.links()
	require.NoError(t, err)
	require.Equal(t, []ui.Link{{Title: "Compactor", URL: "http://compact:10902/x?a=b"}, {Title: "Ring", URL: "/receive/ring"}}, links)
	require.NoError(t, c.validate())
	for _, bad := range []string{
		"Compactor", "=http://x/", "A=", "A=javascript:alert(1)", "A=//evil.example/", "A=data:text/html,x", "A=x/y", "A=http:///x",
		"A=http://[::1", "A=http://user:secret@x/",
	} {
		err := WebConfig{Links: []string{bad}}.validate()
		require.ErrorContains(t, err, "--web.link=", bad)
		require.NotContains(t, err.Error(), "secret")
	}
}
