package protofile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxDepth is how deep a document may nest: the limit of protobuf's own JSON reader.
const maxDepth = 100

// parseYAML reads the first document with the rules of Envoy's reader: plain scalars are booleans by YAML 1.1 (yes, no, on, off, y, n),
// integers in decimal, hexadecimal (0x10) and octal (010), null, and strings otherwise, floating-point numbers too; of a repeated key the
// last counts; merge keys are ordinary keys; an entry whose key is tagged !ignore does not count.
func parseYAML(raw []byte) (*node, error) {
	var doc yaml.Node
	err := yaml.NewDecoder(bytes.NewReader(raw)).Decode(&doc)
	if errors.Is(err, io.EOF) {
		return nil, errors.New("the YAML document is empty")
	}
	if err != nil {
		// JSON is YAML, but the library does not know the escape \/.
		if n, jsonErr := parseJSON(raw); jsonErr == nil {
			return n, nil
		}
		return nil, errors.New(strings.ReplaceAll(err.Error(), "\n", " "))
	}
	c := yamlConverter{anchors: map[*yaml.Node]*node{}}
	return c.convert(&doc, 0)
}

// yamlConverter keeps an anchored value once, however many aliases it has; nil while it is being converted.
type yamlConverter struct{ anchors map[*yaml.Node]*node }

func (c *yamlConverter) convert(y *yaml.Node, depth int) (*node, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("nested deeper than %d levels (line %d)", maxDepth, y.Line)
	}
	switch y.Kind {
	case yaml.DocumentNode:
		return c.convert(y.Content[0], depth)
	case yaml.AliasNode:
		return c.alias(y, depth)
	case yaml.ScalarNode:
		return scalar(y), nil
	case yaml.SequenceNode:
		return c.sequence(y, depth)
	default:
		return c.mapping(y, depth)
	}
}

func (c *yamlConverter) alias(y *yaml.Node, depth int) (*node, error) {
	n, known := c.anchors[y.Alias]
	if known && n == nil {
		return nil, fmt.Errorf("anchor %q contains itself (line %d)", y.Value, y.Line)
	}
	if known {
		return n, nil
	}
	c.anchors[y.Alias] = nil
	n, err := c.convert(y.Alias, depth+1)
	c.anchors[y.Alias] = n
	return n, err
}

func (c *yamlConverter) sequence(y *yaml.Node, depth int) (*node, error) {
	n := &node{kind: list, line: y.Line, items: make([]*node, 0, len(y.Content))}
	for _, e := range y.Content {
		v, err := c.convert(e, depth+1)
		if err != nil {
			return nil, err
		}
		n.items = append(n.items, v)
	}
	return n, nil
}

func (c *yamlConverter) mapping(y *yaml.Node, depth int) (*node, error) {
	size := len(y.Content) / 2
	n := &node{kind: mapping, line: y.Line, keys: make([]string, 0, size), items: make([]*node, 0, size)}
	const many = 16
	var at map[string]int // where the keys of a big mapping are; a small one is searched
	if size > many {
		at = make(map[string]int, size)
	}
	for i := 0; i+1 < len(y.Content); i += 2 {
		k := y.Content[i]
		for k.Kind == yaml.AliasNode {
			k = k.Alias
		}
		if k.Kind != yaml.ScalarNode {
			return nil, fmt.Errorf("a key must be a scalar (line %d)", k.Line)
		}
		if k.Tag == "!ignore" {
			continue
		}
		v, err := c.convert(y.Content[i+1], depth+1)
		if err != nil {
			return nil, err
		}
		n.put(k.Value, v, at)
	}
	return n, nil
}

// scalar types a scalar: only those without quotes, and those with a tag of their own, are more than strings.
func scalar(y *yaml.Node) *node {
	n := &node{kind: text, text: y.Value, line: y.Line}
	const quoted = yaml.SingleQuotedStyle | yaml.DoubleQuotedStyle | yaml.LiteralStyle | yaml.FoldedStyle
	tagged := y.Style&yaml.TaggedStyle != 0
	if y.Style&quoted != 0 && !tagged || y.Tag == "!" {
		return n
	}
	if !tagged && isNull(y.Value) {
		return &node{kind: null, line: y.Line}
	}
	if b, ok := yamlBool(y.Value); ok {
		return &node{kind: boolean, bool: b, line: y.Line}
	}
	if i, ok := yamlInt(y.Value); ok {
		n.text = strconv.FormatInt(i, 10)
		if i >= math.MinInt32 && i <= math.MaxInt32 {
			n.kind = number // a larger one stays a string, which every integer field takes and which no Struct rounds
		}
	}
	return n
}

func isNull(s string) bool { return s == "" || s == "~" || s == "null" || s == "Null" || s == "NULL" }

func yamlBool(s string) (value, ok bool) {
	l := strings.ToLower(s)
	if s != l && s != strings.ToUpper(s) && s != strings.ToUpper(s[:1])+l[1:] {
		return false, false
	}
	switch l {
	case "y", "yes", "true", "on":
		return true, true
	case "n", "no", "false", "off":
		return false, true
	}
	return false, false
}

// yamlInt reads decimal, 0x10 and 010.
func yamlInt(s string) (int64, bool) {
	s = strings.TrimSpace(s)
	digits := strings.TrimLeft(s, "+-")
	if len(s)-len(digits) > 1 || digits == "" || digits[0] < '0' || digits[0] > '9' {
		return 0, false
	}
	base := 10
	switch {
	case strings.HasPrefix(digits, "0x"), strings.HasPrefix(digits, "0X"):
		base, digits = 16, digits[2:]
	case len(digits) > 1 && digits[0] == '0':
		base, digits = 8, digits[1:]
	}
	if digits == "" || digits[0] == '+' || digits[0] == '-' {
		return 0, false
	}
	if s[0] == '-' {
		digits = "-" + digits
	}
	i, err := strconv.ParseInt(digits, base, 64)
	return i, err == nil
}
