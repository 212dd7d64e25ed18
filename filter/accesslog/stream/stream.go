// Package stream is the access loggers envoy.access_loggers.stdout and envoy.access_loggers.stderr
// (type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog and StderrAccessLog).
//
// Lines are buffered and written as internal/logfile says. Differences to Envoy: none known.
package stream

import (
	streamv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/stream/v3"

	"github.com/outrigger-proxy/outrigger/filter"
)

// NewStdout logs to the standard output of the process.
func NewStdout(p *streamv3.StdoutAccessLog, env filter.Env) (filter.AccessLog, error) {
	t, err := parse(p.GetLogFormat())
	if err != nil {
		return nil, err
	}
	return filter.NewFileLog("/dev/stdout", t, env)
}

// NewStderr logs to the standard error of the process.
func NewStderr(p *streamv3.StderrAccessLog, env filter.Env) (filter.AccessLog, error) {
	t, err := parse(p.GetLogFormat())
	if err != nil {
		return nil, err
	}
	return filter.NewFileLog("/dev/stderr", t, env)
}
