package directresponse

import (
	"errors"
	"fmt"
	"os"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
)

// load reads a data source. It happens once, when the factory runs.
func load(s *corev3.DataSource) ([]byte, error) {
	if s.GetWatchedDirectory() != nil {
		return nil, errors.New("watched_directory: is not supported here: the response is read once")
	}
	switch v := s.GetSpecifier().(type) {
	case nil:
		return nil, nil
	case *corev3.DataSource_InlineString:
		return []byte(v.InlineString), nil
	case *corev3.DataSource_InlineBytes:
		return v.InlineBytes, nil
	case *corev3.DataSource_Filename:
		b, err := os.ReadFile(v.Filename)
		if err != nil {
			return nil, fmt.Errorf("filename: %w", err)
		}
		return b, nil
	case *corev3.DataSource_EnvironmentVariable:
		text, ok := os.LookupEnv(v.EnvironmentVariable)
		if !ok {
			return nil, fmt.Errorf("environment_variable: Environment variable doesn't exist: %s", v.EnvironmentVariable)
		}
		return []byte(text), nil
	}
	return nil, fmt.Errorf("specifier: %T is not supported", s.GetSpecifier())
}
