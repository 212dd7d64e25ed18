package file

import (
	"fmt"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	filev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/outrigger-proxy/outrigger/internal/format"
)

// parse compiles the format, of which there are four ways to say it; none means Envoy's default format.
func parse(p *filev3.FileAccessLog) (*format.Template, error) {
	switch f := p.GetAccessLogFormat().(type) {
	case *filev3.FileAccessLog_LogFormat:
		return at("log_format", f.LogFormat)
	case *filev3.FileAccessLog_Format:
		if f.Format == "" {
			break
		}
		t, err := format.Compile(f.Format, format.Options{})
		if err != nil {
			return nil, fmt.Errorf("format: %w", err)
		}
		return t, nil
	case *filev3.FileAccessLog_JsonFormat:
		return at("json_format", object(f.JsonFormat))
	case *filev3.FileAccessLog_TypedJsonFormat:
		return at("typed_json_format", object(f.TypedJsonFormat))
	}
	return format.Default(), nil
}

func object(s *structpb.Struct) *corev3.SubstitutionFormatString {
	return &corev3.SubstitutionFormatString{Format: &corev3.SubstitutionFormatString_JsonFormat{JsonFormat: s}}
}

func at(field string, c *corev3.SubstitutionFormatString) (*format.Template, error) {
	t, err := format.CompileSource(c)
	if err != nil {
		return nil, fmt.Errorf("%s.%w", field, err)
	}
	return t, nil
}
