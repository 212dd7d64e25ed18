package route

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/outrigger-proxy/outrigger/internal/match"
)

// template is a compiled URI template (envoy.path.match.uri_template.uri_template_matcher): segments are literals, * (one segment), **
// (any number of them, at the end only), {name} and {name=pattern}. A literal may follow the last operator.
type template struct {
	match   *match.Regex
	literal string   // what a path has to begin with
	names   []string // of the variables, in the order of their groups
}

// characters is what * stands for, in a character class.
const characters = `a-zA-Z0-9\-._~%!$&'()+,;:@=`

const maxVariables = 5

func compileTemplate(text string) (*template, error) {
	if !strings.HasPrefix(text, "/") {
		return nil, fmt.Errorf("'%s' does not begin with a slash", text)
	}
	p := templateParser{rest: text}
	var pattern strings.Builder
	for p.rest != "" {
		if err := p.segment(&pattern); err != nil {
			return nil, fmt.Errorf("invalid template '%s': %w", text, err)
		}
	}
	re, err := match.NewRegex(pattern.String())
	if err != nil {
		return nil, err
	}
	return &template{re, re.Literal(), p.names}, nil
}

type templateParser struct {
	rest  string
	names []string
	ended bool // ** came by
}

// segment reads a slash and what stands behind it.
func (p *templateParser) segment(b *strings.Builder) error {
	if p.rest[0] != '/' {
		return errors.New("a slash is missing between segments")
	}
	if p.ended {
		return errors.New("** must be the last operator")
	}
	b.WriteByte('/')
	p.rest = p.rest[1:]
	switch {
	case p.rest == "":
		return nil
	case p.rest[0] == '{':
		if err := p.variable(b); err != nil {
			return err
		}
	case p.rest[0] == '*':
		p.operator(b)
	}
	n := strings.IndexByte(p.rest, '/')
	if n < 0 {
		n = len(p.rest)
	}
	if err := literalOnly(p.rest[:n]); err != nil {
		return err
	}
	b.WriteString(quote(p.rest[:n]))
	p.rest = p.rest[n:]
	return nil
}

func (p *templateParser) operator(b *strings.Builder) {
	if strings.HasPrefix(p.rest, "**") {
		b.WriteString("[" + characters + "/]*")
		p.rest, p.ended = p.rest[2:], true
		return
	}
	b.WriteString("[" + characters + "]+")
	p.rest = p.rest[1:]
}

// variable reads {name} or {name=pattern}.
func (p *templateParser) variable(b *strings.Builder) error {
	end := strings.IndexByte(p.rest, '}')
	if end < 0 {
		return errors.New("a brace is not closed")
	}
	name, pattern, has := strings.Cut(p.rest[1:end], "=")
	if !validName(name) {
		return fmt.Errorf("'%s' is not a name", name)
	}
	if slices.Contains(p.names, name) {
		return fmt.Errorf("variable '%s' is there twice", name)
	}
	if p.names = append(p.names, name); len(p.names) > maxVariables {
		return fmt.Errorf("there are more than %d variables", maxVariables)
	}
	if !has {
		pattern = "*"
	}
	inner := templateParser{rest: pattern}
	b.WriteByte('(')
	for i := 0; inner.rest != "" || i == 0; i++ {
		if err := inner.inVariable(b); err != nil {
			return err
		}
	}
	b.WriteByte(')')
	p.rest, p.ended = p.rest[end+1:], inner.ended
	return nil
}

// inVariable reads one segment of a variable's pattern, and the slash behind it.
func (p *templateParser) inVariable(b *strings.Builder) error {
	if p.ended {
		return errors.New("** must be the last operator")
	}
	segment, _, more := strings.Cut(p.rest, "/")
	switch segment {
	case "*", "**":
		p.operator(b)
	case "":
		return errors.New("a variable has an empty segment")
	default:
		if err := literalOnly(segment); err != nil {
			return err
		}
		b.WriteString(quote(segment))
		p.rest = p.rest[len(segment):]
	}
	if more {
		b.WriteByte('/')
		if p.rest = p.rest[1:]; p.rest == "" {
			return errors.New("a variable ends in a slash")
		}
	}
	return nil
}

// quote makes a pattern of a literal. An asterisk inside of one repeats what stands before it, as in Envoy.
func quote(literal string) string {
	return strings.ReplaceAll(regexp.QuoteMeta(literal), `\*`, "*")
}

func validName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'; !letter && (i == 0 || c != '_' && (c < '0' || c > '9')) {
			return false
		}
	}
	return s != "" && len(s) <= 16
}

func literalOnly(s string) error {
	if i := strings.IndexAny(s, "{}\"<>\\^`|# ?[]"); i >= 0 {
		return fmt.Errorf("'%c' may not stand in '%s'", s[i], s)
	}
	return nil
}

// templateRewrite is a compiled path_template_rewrite: literals and {name}.
type templateRewrite struct {
	from  *template
	parts []templatePart
}

// templatePart is text, or a group if group > 0.
type templatePart struct {
	text  string
	group int
}

func compileTemplateRewrite(text string, from *template) (*templateRewrite, error) {
	if !strings.HasPrefix(text, "/") {
		return nil, fmt.Errorf("'%s' does not begin with a slash", text)
	}
	r := &templateRewrite{from: from}
	for rest := text; rest != ""; {
		i := strings.IndexByte(rest, '{')
		if i < 0 {
			i = len(rest)
		}
		if err := literalOnly(rest[:i]); err != nil {
			return nil, err
		}
		if i > 0 {
			r.parts = append(r.parts, templatePart{text: rest[:i]})
		}
		if rest = rest[i:]; rest == "" {
			break
		}
		end := strings.IndexByte(rest, '}')
		if end < 0 {
			return nil, errors.New("a brace is not closed")
		}
		g := indexOf(from.names, rest[1:end])
		if g < 0 {
			return nil, fmt.Errorf("variable '%s' is not in the template of the match", rest[1:end])
		}
		r.parts = append(r.parts, templatePart{group: g + 1})
		rest = rest[end+1:]
	}
	return r, nil
}

func indexOf(list []string, s string) int {
	for i, v := range list {
		if v == s {
			return i
		}
	}
	return -1
}

// append appends path rewritten.
func (r *templateRewrite) append(b []byte, path string) []byte {
	groups := r.from.match.Groups(path)
	if groups == nil {
		return append(b, path...)
	}
	for _, p := range r.parts {
		if p.group == 0 {
			b = append(b, p.text...)
		} else {
			b = append(b, groups[p.group]...)
		}
	}
	return b
}
