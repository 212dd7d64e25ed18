package admin

import (
	"net/http"
	"strings"
	"time"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	filev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// accessLogs builds the loggers of the interface; access_log_path is the older way to ask for a file.
func (s *Server) accessLogs(p *bootstrapv3.Admin) (filter.Loggers, error) {
	list := p.GetAccessLog()
	if path := p.GetAccessLogPath(); path != "" {
		file, err := anypb.New(&filev3.FileAccessLog{Path: path})
		if err != nil {
			return nil, err
		}
		list = append([]*accesslogv3.AccessLog{{
			Name: "envoy.access_loggers.file", ConfigType: &accesslogv3.AccessLog_TypedConfig{TypedConfig: file},
		}}, list...)
	}
	return filter.NewLoggers(list, filter.Env{Process: s.Process.Process, Listener: &filter.Listener{Name: "admin"}})
}

// logAccess tells the loggers of a request. They belong to workers, so the first one does it.
func (s *Server) logAccess(r *http.Request, res *response, began time.Time) {
	if len(s.loggers) == 0 {
		return
	}
	w := s.Workers[0]
	header := r.Header.Clone()
	status, size, took := res.status, int64(res.Len()), time.Since(began)
	w.Post(func() {
		st := &stream.Stream{}
		st.Reset(w, &stream.Conn{})
		for name, values := range header {
			for _, v := range values {
				st.Request.Header.Add(strings.ToLower(name), v)
			}
		}
		st.Request.Method, st.Request.Path, st.Request.Authority = r.Method, r.URL.RequestURI(), r.Host
		i := &st.Info
		i.Protocol, i.Method, i.Path, i.Authority = stream.HTTP11, r.Method, r.URL.RequestURI(), r.Host
		i.StartWall, i.End = began, w.Now()
		i.Start = i.End.Add(-took)
		i.Status, i.BytesOut, i.BytesIn = status, size, max(0, r.ContentLength)
		s.loggers.Log(st)
	})
}
