package auth

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// text is a string of the file, with the line that it begins on.
type text struct {
	value string
	line  int
}

// UnmarshalYAML implements yaml.Unmarshaler.
func (t *text) UnmarshalYAML(node *yaml.Node) error {
	t.line = node.Line
	return node.Decode(&t.value)
}

// decode reads one YAML document with known fields only. Its errors are our own words: those of the YAML library quote what they found, and
// that may be a secret.
func decode(data []byte) (fileShape, error) {
	var shape fileShape
	d := yaml.NewDecoder(bytes.NewReader(data))
	d.KnownFields(true)
	err := d.Decode(&shape)
	if errors.Is(err, io.EOF) {
		return fileShape{}, errors.New("it is empty")
	}
	if err != nil {
		return fileShape{}, explain(data, err)
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return fileShape{}, errors.New("it has more than one YAML document")
	}
	return shape, nil
}

var (
	atLine       = regexp.MustCompile(`line (\d+)`)
	unknownField = regexp.MustCompile(`field ([A-Za-z_-]{1,24}) not found in type`)
)

// explain says where the YAML is wrong, and in which way.
func explain(data []byte, err error) error {
	text := err.Error()
	var mistakes *yaml.TypeError
	if errors.As(err, &mistakes) && len(mistakes.Errors) > 0 {
		text = mistakes.Errors[0]
	}
	what := "is not YAML; mind the indentation, and quote values with : or #"
	switch {
	case strings.Contains(text, "not found in type"):
		what = "has an unknown field"
		// A word with a colon after it was meant as a name; a secret in its place would be one by chance.
		if m := unknownField.FindStringSubmatch(text); m != nil && bytes.Contains(data, []byte(m[1]+":")) {
			what += ", " + m[1]
		}
	case strings.Contains(text, "cannot unmarshal"):
		what = "has a value of the wrong kind"
	case strings.Contains(text, "already defined"), strings.Contains(text, "already set"):
		what = "has a field for the second time"
	}
	m := atLine.FindStringSubmatch(text)
	if m == nil {
		return fmt.Errorf("the file %s", what)
	}
	line, _ := strconv.Atoi(m[1]) // digits
	if name := senderAt(data, line); name != "" {
		return fmt.Errorf("sender %q: line %d %s", name, line, what)
	}
	return fmt.Errorf("line %d %s", line, what)
}

// senderAt is the name of the sender at this line, as far as there is YAML to find one in.
func senderAt(data []byte, line int) (name string) {
	var loose struct {
		Senders []yaml.Node `yaml:"senders"`
		Gateway yaml.Node   `yaml:"gateway"`
	}
	_ = yaml.Unmarshal(data, &loose) // what it could make out is enough
	if g := loose.Gateway.Line; g > 0 && line >= g {
		loose.Senders = nil
	}
	for _, s := range loose.Senders {
		if s.Line > line {
			break
		}
		var named struct {
			Name string `yaml:"name"`
		}
		_ = s.Decode(&named)
		name = named.Name
	}
	if badName(name) != "" {
		return ""
	}
	return name
}
