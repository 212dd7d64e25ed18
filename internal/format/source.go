package format

import (
	"errors"
	"fmt"
	"os"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/formatter/metadata/v3"          // a formatter that there is
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/formatter/req_without_query/v3" // and another
)

// CompileSource compiles what a configuration says: a text, an inline or file source of text, or a JSON object. Text from a file or
// from the environment is read now. Formatter extensions that we do not have are refused.
func CompileSource(c *corev3.SubstitutionFormatString) (*Template, error) {
	o := Options{OmitEmpty: c.GetOmitEmptyValues()}
	for i, f := range c.GetFormatters() {
		switch a := f.GetTypedConfig(); a.MessageName() {
		case "envoy.extensions.formatter.metadata.v3.Metadata": // METADATA is always there
		case "envoy.extensions.formatter.req_without_query.v3.ReqWithoutQuery":
			o.withoutQuery = true
		default:
			return nil, fmt.Errorf("formatters[%d]: didn't find a registered implementation for '%s' with type URL '%s'", i, f.GetName(), a.GetTypeUrl())
		}
	}
	t, err := compileFormat(c, o)
	if err == nil && c.GetContentType() != "" {
		t.contentType = c.GetContentType()
	}
	return t, err
}

func compileFormat(c *corev3.SubstitutionFormatString, o Options) (*Template, error) {
	switch f := c.GetFormat().(type) {
	case *corev3.SubstitutionFormatString_JsonFormat:
		n, err := compileObject(f.JsonFormat, o)
		if err != nil {
			return nil, fmt.Errorf("json_format: %w", err)
		}
		n.omit = false
		return &Template{json: n, missing: missingText(o), contentType: "application/json"}, nil
	case *corev3.SubstitutionFormatString_TextFormat:
		return compileNamed("text_format", f.TextFormat, o)
	case *corev3.SubstitutionFormatString_TextFormatSource:
		text, err := Text(f.TextFormatSource)
		if err != nil {
			return nil, fmt.Errorf("text_format_source: %w", err)
		}
		return compileNamed("text_format_source", text, o)
	}
	return nil, errors.New("a format must have one of text_format, json_format and text_format_source")
}

func compileNamed(name, text string, o Options) (*Template, error) {
	t, err := Compile(text, o)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return t, nil
}

// Text reads a data source now.
func Text(d *corev3.DataSource) (string, error) {
	if d.GetWatchedDirectory() != nil {
		return "", errors.New("watched_directory: is not supported here, the source is read once")
	}
	switch f := d.GetSpecifier().(type) {
	case *corev3.DataSource_InlineString:
		return f.InlineString, nil
	case *corev3.DataSource_InlineBytes:
		return string(f.InlineBytes), nil
	case *corev3.DataSource_Filename:
		b, err := os.ReadFile(f.Filename)
		return string(b), err
	case *corev3.DataSource_EnvironmentVariable:
		v, ok := os.LookupEnv(f.EnvironmentVariable)
		if !ok {
			return "", fmt.Errorf("environment_variable: %s is not set", f.EnvironmentVariable)
		}
		return v, nil
	}
	return "", errors.New("must have one of filename, inline_bytes, inline_string and environment_variable")
}
