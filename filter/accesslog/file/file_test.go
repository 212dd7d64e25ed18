package file

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	filev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/extension"
	"github.com/outrigger-proxy/outrigger/internal/fieldtest"
	"github.com/outrigger-proxy/outrigger/internal/logfile"
	"github.com/outrigger-proxy/outrigger/internal/stats"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

func TestFields(t *testing.T) { fieldtest.Check(t, "fields.golden", &filev3.FileAccessLog{}) }

func newStream() *stream.Stream {
	s := &stream.Stream{}
	s.Info.Conn = &stream.Conn{}
	s.Info.StartWall = time.Unix(0, 0)
	s.Info.Status, s.Info.Protocol = 200, stream.HTTP11
	s.Request.Method, s.Request.Path, s.Request.Authority = "GET", "/", "a"
	return s
}

// build makes the logger through the registry, as a listener does.
func build(t *testing.T, config string) (filter.AccessLog, *logfile.Set, error) {
	t.Helper()
	p := &filev3.FileAccessLog{}
	if err := protojson.Unmarshal([]byte(config), p); err != nil {
		t.Fatal(err)
	}
	a, err := anypb.New(p)
	if err != nil {
		t.Fatal(err)
	}
	files := logfile.New(logfile.Options{}, (&stats.Store{}).Root())
	t.Cleanup(files.Close)
	var r extension.Registry[filter.AccessLog, filter.Env]
	extension.Add(&r, New)
	l, err := r.Build(a, filter.Env{Process: &filter.Process{Files: files}})
	return l, files, err
}

func TestFormats(t *testing.T) {
	for name, c := range map[string]struct{ config, want string }{
		"none":                    {``, `[1970-01-01T00:00:00.000Z] "GET / HTTP/1.1" 200 - 0 0 0 - "-" "-" "-" "a" "-"` + "\n"},
		"log_format":              {`,"log_format":{"text_format_source":{"inline_string":"%RESPONSE_CODE%\n"}}`, "200\n"},
		"log_format with JSON":    {`,"log_format":{"json_format":{"a":"%RESPONSE_CODE%"}}`, `{"a":200}` + "\n"},
		"format, deprecated":      {`,"format":"%PROTOCOL%\n"`, "HTTP/1.1\n"},
		"json_format, deprecated": {`,"json_format":{"a":"%PROTOCOL%"}`, `{"a":"HTTP/1.1"}` + "\n"},
		"typed_json_format":       {`,"typed_json_format":{"a":"%RESPONSE_CODE%"}`, `{"a":200}` + "\n"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "a.log")
			l, files, err := build(t, `{"path":"`+path+`"`+c.config+`}`)
			if err != nil {
				t.Fatal(err)
			}
			l.Log(newStream())
			files.Flush()
			if got, err := os.ReadFile(path); err != nil || string(got) != c.want {
				t.Errorf("%q, %v, want %q", got, err, c.want)
			}
		})
	}
}

func TestErrors(t *testing.T) {
	for config, want := range map[string]string{
		`{"path":"/","format":"x"}`:                                  "unable to open file '/': open /: is a directory",
		`{"path":"/dev/null","format":"%NOPE%"}`:                     "format: Not supported field in StreamInfo: NOPE",
		`{"path":"/dev/null","log_format":{"text_format":"%NOPE%"}}`: "log_format.text_format: Not supported field in StreamInfo: NOPE",
		`{"path":"/dev/null","typed_json_format":{"a":"%NOPE%"}}`:    "typed_json_format.json_format: Not supported field in StreamInfo: NOPE",
	} {
		if _, _, err := build(t, config); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", config, err, want)
		}
	}
}

func TestLogDoesNotAllocate(t *testing.T) {
	l, _, err := build(t, `{"path":"/dev/null"}`)
	if err != nil {
		t.Fatal(err)
	}
	s := newStream()
	for range 1000 { // let the buffer grow
		l.Log(s)
	}
	if n := testing.AllocsPerRun(200, func() { l.Log(s) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkLog(b *testing.B) {
	files := logfile.New(logfile.Options{}, (&stats.Store{}).Root())
	defer files.Close()
	l, err := New(&filev3.FileAccessLog{Path: "/dev/null"}, filter.Env{Process: &filter.Process{Files: files}})
	if err != nil {
		b.Fatal(err)
	}
	s := newStream()
	b.ReportAllocs()
	for b.Loop() {
		l.Log(s)
	}
}
