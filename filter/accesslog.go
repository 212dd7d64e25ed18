package filter

import (
	"fmt"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"

	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// Loggers are the access loggers of one place (a listener, a connection manager, a TCP proxy), each with its filter.
type Loggers []logger

type logger struct {
	log  AccessLog
	keep LogFilter // nil: logs all
}

// NewLoggers builds access_log lists. Its errors start with the index: "[0].typed_config: ...".
func NewLoggers(list []*accesslogv3.AccessLog, env Env) (Loggers, error) {
	var l Loggers
	for i, p := range list {
		env.Name = p.GetName()
		log, err := env.Extensions.Log.Build(p.GetTypedConfig(), env)
		if err != nil {
			return nil, fmt.Errorf("[%d].typed_config: %w", i, err)
		}
		keep, err := newLogFilter(p.GetFilter(), env)
		if err != nil {
			return nil, fmt.Errorf("[%d].filter.%w", i, err)
		}
		l = append(l, logger{log, keep})
	}
	return l, nil
}

// NewLogFilter compiles an AccessLogFilter for others than access loggers, such as local_reply_config; nil for nil.
func NewLogFilter(p *accesslogv3.AccessLogFilter, env Env) (LogFilter, error) {
	return newLogFilter(p, env)
}

// newLogFilter compiles an AccessLogFilter; nil for nil.
func newLogFilter(p *accesslogv3.AccessLogFilter, env Env) (LogFilter, error) {
	switch f := p.GetFilterSpecifier().(type) {
	case nil:
		return nil, nil
	case *accesslogv3.AccessLogFilter_ExtensionFilter:
		return env.Extensions.LogFilter.Build(f.ExtensionFilter.GetTypedConfig(), env)
	}
	return nil, fmt.Errorf("%T: is not supported yet", p.GetFilterSpecifier())
}

// Log hands s to each logger that wants it.
func (l Loggers) Log(s *stream.Stream) {
	for i := range l {
		if l[i].keep == nil || l[i].keep.Keep(s) {
			l[i].log.Log(s)
		}
	}
}
