package log

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	"google.golang.org/protobuf/types/known/structpb"
)

// ErrTwoFormats is the error if both the bootstrap and the command line say how lines look.
var ErrTwoFormats = errors.New("application_log_config.log_format: only one of it and the command line option --log-format can be specified")

// CompileConfig compiles the line format of a bootstrap, nil if it has none.
func CompileConfig(c *bootstrapv3.Bootstrap_ApplicationLogConfig) (*Pattern, error) {
	switch f := c.GetLogFormat().GetLogFormat().(type) {
	case *bootstrapv3.Bootstrap_ApplicationLogConfig_LogFormat_TextFormat:
		return CompilePattern(f.TextFormat, false), nil
	case *bootstrapv3.Bootstrap_ApplicationLogConfig_LogFormat_JsonFormat:
		p, err := compileJSON(f.JsonFormat)
		if err != nil {
			return nil, fmt.Errorf("application_log_config.log_format.json_format: %w", err)
		}
		return p, nil
	}
	return nil, nil
}

// compileJSON makes a pattern whose lines are JSON objects. %v and %_ could break the JSON and are refused: %j is the message there.
func compileJSON(s *structpb.Struct) (*Pattern, error) {
	var line bytes.Buffer
	enc := json.NewEncoder(&line)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s.AsMap()); err != nil {
		return nil, err
	}
	text := bytes.TrimSpace(line.Bytes())
	for i := 0; i+1 < len(text); i++ {
		if text[i] != '%' {
			continue
		}
		i++
		if text[i] == 'v' || text[i] == '_' {
			return nil, fmt.Errorf("usage of %%%c is unavailable for JSON log formats: use %%j", text[i])
		}
	}
	return CompilePattern(string(text), false), nil
}
