package arch

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var link = regexp.MustCompile(`\]\(([^)#\s]+)[^)]*\)`)

// TestDocuments checks that links between documents lead to files, and that the
// index docs/README.md names every page.
func TestDocuments(t *testing.T) {
	root := filepath.Join("..", "..")
	index, err := os.ReadFile(filepath.Join(root, "docs", "README.md"))
	require.NoError(t, err)
	err = filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "data" || d.Name() == "node_modules" || p != root && strings.HasPrefix(d.Name(), ".") && d.Name() != "..") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(p, ".md") {
			return nil
		}
		b, err := os.ReadFile(p)
		require.NoError(t, err)
		for _, m := range link.FindAllStringSubmatch(string(b), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(p), m[1])); err != nil {
				t.Errorf("%s: the link to %s leads nowhere", p, m[1])
			}
		}
		// docs/runbooks/README.md, which is generated with them, lists the runbooks.
		listed := filepath.Base(filepath.Dir(p)) == "runbooks" && filepath.Base(p) != "README.md"
		if page, err := filepath.Rel(filepath.Join(root, "docs"), p); err == nil && !strings.HasPrefix(page, "..") &&
			page != "README.md" && !listed && !strings.Contains(string(index), "]("+page+")") {
			t.Errorf("docs/README.md does not name docs/%s", page)
		}
		return nil
	})
	require.NoError(t, err)
}

// TestArchitecture_NamesEachPackage checks that the table of packages lists each
// package of pkg/ but generated ones, and no package that does not exist.
func TestArchitecture_NamesEachPackage(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("..", "..", "docs", "ARCHITECTURE.md"))
	require.NoError(t, err)
	_, table, ok := strings.Cut(string(b), "## Packages")
	require.True(t, ok)
	table, _, ok = strings.Cut(table, "## Rules")
	require.True(t, ok)
	named := map[string]bool{}
	for _, line := range strings.Split(table, "\n") {
		cells := strings.Split(line, "|")
		for i, part := range strings.Split(cells[min(1, len(cells)-1)], "`") {
			if i%2 == 1 && strings.HasPrefix(line, "|") {
				named[part] = true
				if strings.Contains(line, "| pure: ") && !slices.Contains(pure, part) {
					t.Errorf("docs/ARCHITECTURE.md calls %s pure, and the list in test/arch does not have it", part)
				}
			}
		}
	}
	exist := map[string]bool{}
	for _, s := range sources(t, "pkg") {
		exist[s.pkg()] = true
		generated := strings.HasPrefix(s.pkg(), "storeapi/storepb/") || s.pkg() == "receive/capnpserver/capnpb"
		if !named[s.pkg()] && !generated {
			t.Errorf("docs/ARCHITECTURE.md: the table of packages lacks %s", s.pkg())
			named[s.pkg()] = true
		}
	}
	for pkg := range named {
		if !exist[pkg] && !strings.HasPrefix(pkg, "cmd/") && !strings.HasPrefix(pkg, "test/") && pkg != "storeapi/storepb" {
			t.Errorf("docs/ARCHITECTURE.md: the table of packages has %s, which does not exist", pkg)
		}
	}
}
