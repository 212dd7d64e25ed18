package admin

import (
	"fmt"
	"net/http"
	"strings"

	"go.uber.org/zap/zapcore"

	"github.com/outrigger-proxy/outrigger/internal/log"
)

const loggingUsage = `
usage: /logging?<name>=<level> (change single level)
usage: /logging?paths=name1:level1,name2:level2,... (change multiple levels)
usage: /logging?level=<level> (change all levels)
levels: trace debug info warning error critical off
`

func logging(s *Server, w *response, r *http.Request) {
	if err := s.setLevels(r); err != nil {
		w.failf(http.StatusBadRequest, "error: %v\n%s", err, loggingUsage)
	}
	w.WriteString("active loggers:\n")
	s.Logs.Each(func(name string, l zapcore.Level) { _, _ = fmt.Fprintf(w, "  %s: %s\n", name, log.LevelName(l)) })
	w.WriteString("\n")
}

func (s *Server) setLevels(r *http.Request) error {
	q := r.URL.Query()
	if len(q) > 1 {
		return fmt.Errorf("invalid number of parameters: %d", len(q))
	}
	for key := range q {
		switch value := q.Get(key); key {
		case "level":
			l, err := log.ParseLevel(value)
			if err != nil {
				return err
			}
			s.Logs.SetAll(l)
		case "paths":
			return s.setPaths(value)
		default:
			return s.setLevel(key, value)
		}
	}
	return nil
}

// setPaths sets the levels of a list such as `http:debug,router:info`.
func (s *Server) setPaths(list string) error {
	for pair := range strings.SplitSeq(list, ",") {
		name, level, ok := strings.Cut(pair, ":")
		if !ok {
			return fmt.Errorf("%q is not of the form component:level", pair)
		}
		if err := s.setLevel(name, level); err != nil {
			return err
		}
	}
	return nil
}

func (s *Server) setLevel(name, level string) error {
	l, err := log.ParseLevel(level)
	if err != nil {
		return err
	}
	return s.Logs.SetLevel(name, l)
}
