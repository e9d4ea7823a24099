package flags

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

var (
	yamlUnknown = regexp.MustCompile(`(?s)^(line \d+: )field (.*) not found in (?:type|struct) .*$`)
	yamlTwice   = regexp.MustCompile(`(?s)^(line \d+: )(?:field|key) (.*) already set in (?:type|struct|map).*$`)
	yamlKind    = regexp.MustCompile("(?s)^(line \\d+: )cannot unmarshal (!!\\w+|!\\S+)(?: `.*`)? into (.*)$")
	yamlAnchor  = regexp.MustCompile(`(?s)unknown anchor '.*' referenced`)
)

// DecodeYAML reads one YAML document into a value, over what it holds already.
// Unknown and repeated keys are errors, and so is a second document. Errors
// name the line and what is expected; they show neither types of the program
// nor values of the file, which may be secrets. Empty content changes nothing.
func DecodeYAML(content []byte, into any) error {
	dec := yaml.NewDecoder(bytes.NewReader(content))
	dec.KnownFields(true)
	if err := dec.Decode(into); err != nil {
		if errors.Is(err, io.EOF) {
			return nil
		}
		return YAMLError(err)
	}
	var second yaml.Node
	if err := dec.Decode(&second); err == nil && len(second.Content) > 0 && second.Content[0].Tag != "!!null" {
		return fmt.Errorf("line %d: there is a second document; write one only", second.Line)
	}
	return nil
}

// YAMLError rewrites an error of a YAML decoder for the author of the file: on one
// line, without types of the program and without values.
func YAMLError(err error) error {
	var out []string
	for line := range strings.SplitSeq(strings.TrimPrefix(err.Error(), "yaml: "), "\n") {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || line == "unmarshal errors:":
			continue
		case yamlAnchor.MatchString(line):
			line = yamlAnchor.ReplaceAllString(line, "unknown anchor referenced (put a value that begins with * in quotes)")
		case yamlUnknown.MatchString(line):
			line = yamlUnknown.ReplaceAllString(line, `${1}unknown key "${2}"`)
		case yamlTwice.MatchString(line):
			line = yamlTwice.ReplaceAllString(line, `${1}key "${2}" is given twice`)
		default:
			if m := yamlKind.FindStringSubmatch(line); m != nil {
				line = m[1] + kindOfGo(m[3]) + " is expected, not " + kindOfYAML(m[2])
			}
		}
		out = append(out, line)
	}
	return errors.New(strings.Join(out, "; "))
}

// kindOfYAML returns the name of a tag in messages.
func kindOfYAML(tag string) string {
	switch tag {
	case "!!map":
		return "a mapping"
	case "!!seq":
		return "a list"
	case "!!str":
		return "text"
	case "!!int", "!!float":
		return "a number"
	case "!!bool":
		return "true or false"
	case "!!null":
		return "nothing"
	}
	return "this"
}

// kindOfGo returns the YAML form of a Go type, for messages.
func kindOfGo(t string) string {
	t = strings.TrimLeft(t, "*")
	switch {
	case strings.HasPrefix(t, "[]"):
		return "a list"
	case t == "string":
		return "text"
	case t == "bool":
		return "true or false"
	case strings.HasPrefix(t, "uint"):
		return "a number that is not negative"
	case strings.HasPrefix(t, "int"), strings.HasPrefix(t, "float"):
		return "a number"
	case strings.HasPrefix(t, "map["), strings.HasPrefix(t, "struct"):
		return "a mapping"
	case strings.HasSuffix(t, ".Duration"):
		return "a duration such as 30s"
	}
	return "another kind of value"
}
