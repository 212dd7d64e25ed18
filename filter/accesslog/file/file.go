// Package file is the access logger envoy.access_loggers.file
// (type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog).
//
// Lines are buffered and written as internal/logfile says. Differences to Envoy: see README.md.
package file

import (
	filev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3"

	"github.com/outrigger-proxy/outrigger/filter"
)

// New opens the file, which is made where it is missing.
func New(p *filev3.FileAccessLog, env filter.Env) (filter.AccessLog, error) {
	t, err := parse(p)
	if err != nil {
		return nil, err
	}
	return filter.NewFileLog(p.GetPath(), t, env)
}
