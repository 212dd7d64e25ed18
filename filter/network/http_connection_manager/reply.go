package hcm

import (
	"fmt"
	"os"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/format"
	"github.com/outrigger-proxy/outrigger/internal/mutation"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// mapper is local_reply_config.
type mapper struct {
	rules  []rule
	format *format.Template // nil: the body as it is
}

// rule is one of its mappers; the first whose filter keeps the stream applies.
type rule struct {
	keep   filter.LogFilter
	status int // 0: stays
	body   []byte
	set    bool // body is configured
	format *format.Template
	edits  *mutation.List
}

// newMapper compiles c; nil if there is nothing to do. Errors start with the field.
func newMapper(c *hcmv3.LocalReplyConfig, env filter.Env) (filter.Mapper, error) {
	if c.GetBodyFormat() == nil && len(c.GetMappers()) == 0 {
		return nil, nil
	}
	m := &mapper{}
	var err error
	if m.format, err = compileFormat(c.GetBodyFormat()); err != nil {
		return nil, fmt.Errorf("body_format: %w", err)
	}
	for i, p := range c.GetMappers() {
		r, err := newRule(p, env)
		if err != nil {
			return nil, fmt.Errorf("mappers[%d].%w", i, err)
		}
		m.rules = append(m.rules, r)
	}
	return m, nil
}

func newRule(p *hcmv3.ResponseMapper, env filter.Env) (rule, error) {
	r := rule{status: int(p.GetStatusCode().GetValue()), set: p.GetBody() != nil}
	var err error
	if r.keep, err = filter.NewLogFilter(p.GetFilter(), env); err != nil {
		return r, fmt.Errorf("filter.%w", err)
	}
	if r.body, err = read(p.GetBody()); err != nil {
		return r, fmt.Errorf("body: %w", err)
	}
	if r.format, err = compileFormat(p.GetBodyFormatOverride()); err != nil {
		return r, fmt.Errorf("body_format_override: %w", err)
	}
	if r.edits, err = mutation.Compile(p.GetHeadersToAdd(), nil); err != nil {
		return r, fmt.Errorf("headers_to_add%w", err)
	}
	return r, nil
}

func compileFormat(c *corev3.SubstitutionFormatString) (*format.Template, error) {
	if c == nil {
		return nil, nil
	}
	return format.CompileSource(c)
}

// read reads a data source at the time of the configuration, as Envoy does.
func read(d *corev3.DataSource) ([]byte, error) {
	switch s := d.GetSpecifier().(type) {
	case *corev3.DataSource_InlineString:
		return []byte(s.InlineString), nil
	case *corev3.DataSource_InlineBytes:
		return s.InlineBytes, nil
	case *corev3.DataSource_Filename:
		return os.ReadFile(s.Filename)
	case *corev3.DataSource_EnvironmentVariable:
		v, ok := os.LookupEnv(s.EnvironmentVariable)
		if !ok {
			return nil, fmt.Errorf("environment variable doesn't exist: %s", s.EnvironmentVariable)
		}
		return []byte(v), nil
	}
	return nil, nil
}

// Map applies the first rule that fits, and the format.
func (m *mapper) Map(s *filter.Stream, body []byte) ([]byte, string) {
	f := m.format
	for i := range m.rules {
		r := &m.rules[i]
		if r.keep == nil || !r.keep.Keep(&s.Stream) {
			continue
		}
		if r.set {
			body = append(body[:0], r.body...)
		}
		r.edits.Apply(&s.Response.Header, &s.Stream)
		if r.status != 0 {
			s.Response.Status, s.Info.Status = r.status, r.status
		}
		if r.format != nil {
			f = r.format
		}
		break
	}
	if f == nil {
		return body, ""
	}
	s.Info.LocalReplyBody = s.Text(string(body))
	t := s.Append(func(b []byte, s *stream.Stream) []byte { return f.Append(b, s) })
	return append(body[:0], t...), f.ContentType()
}
