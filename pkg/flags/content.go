package flags

import (
	"errors"
	"fmt"
	"os"
	"regexp"
)

// PathOrContent is a configuration given either as a file (--NAME-file) or
// inline (--NAME).
type PathOrContent struct {
	name    string
	path    string
	content string
	expand  bool
}

// Register adds the flags --NAME-file and --NAME. With expandEnv, $(VAR) in the
// configuration is replaced from the environment.
func (p *PathOrContent) Register(r Registrar, name, help string, expandEnv bool) {
	p.name, p.expand = name, expandEnv
	r.Flag(name+"-file", "Path of the YAML file with "+help+".").PlaceHolder("<path>").StringVar(&p.path)
	r.Flag(name, "YAML with "+help+", inline; exclusive with --"+name+"-file.").PlaceHolder("<content>").StringVar(&p.content)
}

// Inline returns a value that holds content, as given with --NAME.
func Inline(name, content string) PathOrContent {
	return PathOrContent{name: name, content: content}
}

// Source names the origin of the content, for messages.
func (p *PathOrContent) Source() string {
	if p.path != "" {
		return p.path
	}
	return "--" + p.name
}

// Path returns the file's path, empty when the content is inline or absent.
func (p *PathOrContent) Path() string { return p.path }

// IsSet reports whether one of the flags was given.
func (p *PathOrContent) IsSet() bool { return p.path != "" || p.content != "" }

// Content reads the configuration; it is empty when neither flag was given.
// The error is marked Invalid.
func (p *PathOrContent) Content() ([]byte, error) {
	if p.path != "" && p.content != "" {
		return nil, Invalid(fmt.Errorf("--%s-file and --%s are both given; give one of them", p.name, p.name))
	}
	raw := []byte(p.content)
	if p.path != "" {
		b, err := os.ReadFile(p.path)
		if err != nil {
			return nil, Invalid(fmt.Errorf("read --%s-file: %w", p.name, err))
		}
		raw = b
	}
	if !p.expand {
		return raw, nil
	}
	out, err := ExpandEnv(raw)
	if err != nil {
		return nil, Invalid(fmt.Errorf("%s: %w", p.Source(), err))
	}
	return out, nil
}

// ExpandEnv replaces each $(NAME) by the environment variable NAME. One that is
// not set is an error.
func ExpandEnv(b []byte) ([]byte, error) {
	out, unset := ExpandSetEnv(b)
	var errs []error
	for _, name := range unset {
		errs = append(errs, fmt.Errorf("environment variable %s, used as $(%s), is not set", name, name))
	}
	return out, errors.Join(errs...)
}

// ExpandSetEnv is ExpandEnv that leaves $(NAME) as it is when the variable is not set,
// and returns the names of these, in order.
func ExpandSetEnv(b []byte) (out []byte, unset []string) {
	out = regexp.MustCompile(`\$\([a-zA-Z_0-9]+\)`).ReplaceAllFunc(b, func(m []byte) []byte {
		name := string(m[2 : len(m)-1])
		v, ok := os.LookupEnv(name)
		if !ok {
			unset = append(unset, name)
			return m
		}
		return []byte(v)
	})
	return out, unset
}
