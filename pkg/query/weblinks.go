package query

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/hindsight-io/hindsight/pkg/ui"
)

// links reads the pages of other processes. URLs with passwords are refused: the pages
// would show them.
func (c WebConfig) links() ([]ui.Link, error) {
	var out []ui.Link
	for _, text := range c.Links {
		title, target, ok := strings.Cut(text, "=")
		u, err := url.Parse(target)
		if inner := (*url.Error)(nil); errors.As(err, &inner) {
			err = inner.Err // without the URL, which may have a password
		}
		switch {
		case !ok || strings.TrimSpace(title) == "" || target == "":
			return nil, fmt.Errorf("--web.link=%q is not of the form Compactor=http://compact:10902/", text)
		case err != nil:
			return nil, fmt.Errorf("--web.link=%q: %w", title, err)
		case u.User != nil:
			return nil, fmt.Errorf("--web.link=%q: the URL has a user or a password, which the pages would show; remove it", title)
		case (u.Scheme == "http" || u.Scheme == "https") && u.Host != "":
		case u.Scheme == "" && u.Host == "" && strings.HasPrefix(u.Path, "/"):
		default:
			return nil, fmt.Errorf("--web.link=%q: the target is neither an http or https URL nor a path that begins with one slash", title)
		}
		out = append(out, ui.Link{Title: strings.TrimSpace(title), URL: target})
	}
	return out, nil
}
