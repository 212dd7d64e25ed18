package filter

import (
	"fmt"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"

	"github.com/outrigger-proxy/outrigger/internal/format"
	"github.com/outrigger-proxy/outrigger/internal/logfile"
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
		keep, err := NewLogFilter(p.GetFilter(), env)
		if err != nil {
			return nil, fmt.Errorf("[%d].filter.%w", i, err)
		}
		l = append(l, logger{log, keep})
	}
	return l, nil
}

// Log hands s to each logger that wants it.
func (l Loggers) Log(s *stream.Stream) {
	for i := range l {
		if l[i].keep == nil || l[i].keep.Keep(s) {
			l[i].log.Log(s)
		}
	}
}

// FileLog is an access logger that writes a line per call to a log file.
type FileLog struct {
	file   *logfile.File
	format *format.Template
}

// NewFileLog opens path ("/dev/stdout" and "/dev/stderr" are the streams of the process) for lines of this format.
func NewFileLog(path string, t *format.Template, env Env) (*FileLog, error) {
	f, err := env.Files.Open(path)
	if err != nil {
		return nil, err
	}
	return &FileLog{f, t}, nil
}

// Log appends the line to the buffer of the stream's worker. It does not wait.
func (l *FileLog) Log(s *stream.Stream) {
	worker := -1
	if s.Worker != nil {
		worker = s.Worker.ID
	}
	l.file.WriteFunc(worker, func(b []byte) []byte { return l.format.Append(b, s) })
}
