package transport

import (
	"fmt"
	"os"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
)

// material is what a DataSource holds. It does file I/O: on the control loop, never in a fiber.
func material(s *corev3.DataSource) ([]byte, error) {
	switch v := s.GetSpecifier().(type) {
	case *corev3.DataSource_Filename:
		b, err := os.ReadFile(v.Filename)
		if err != nil {
			return nil, fmt.Errorf("filename: Invalid path: %s: %w", v.Filename, err)
		}
		if len(b) == 0 {
			return nil, fmt.Errorf("filename: file %s is empty", v.Filename)
		}
		return b, nil
	case *corev3.DataSource_InlineBytes:
		return v.InlineBytes, nil
	case *corev3.DataSource_InlineString:
		return []byte(v.InlineString), nil
	case *corev3.DataSource_EnvironmentVariable:
		b, ok := os.LookupEnv(v.EnvironmentVariable)
		if !ok {
			return nil, fmt.Errorf("environment_variable: Environment variable doesn't exist: %s", v.EnvironmentVariable)
		}
		return []byte(b), nil
	}
	return nil, nil
}

// whence names a DataSource in errors and on /certs, as Envoy does.
func whence(s *corev3.DataSource) string {
	if f := s.GetFilename(); f != "" {
		return f
	}
	return "<inline>"
}
