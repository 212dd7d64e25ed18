package stream

import (
	"os"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	streamv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/stream/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/extension"
	"github.com/outrigger-proxy/outrigger/internal/fieldtest"
	"github.com/outrigger-proxy/outrigger/internal/logfile"
	"github.com/outrigger-proxy/outrigger/internal/stats"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

func TestFields(t *testing.T) {
	fieldtest.Check(t, "fields.golden", &streamv3.StdoutAccessLog{}, &streamv3.StderrAccessLog{})
}

func text(s string) *corev3.SubstitutionFormatString {
	return &corev3.SubstitutionFormatString{Format: &corev3.SubstitutionFormatString_TextFormat{TextFormat: s}}
}

// log builds p through the registry and logs a stream while the streams of the process are files.
func log(t *testing.T, p proto.Message) (out, err string) {
	t.Helper()
	stdout, stderr := os.Stdout, os.Stderr
	o, e := temporary(t), temporary(t)
	os.Stdout, os.Stderr = o, e
	defer func() { os.Stdout, os.Stderr = stdout, stderr }()
	files := logfile.New(logfile.Options{}, (&stats.Store{}).Root())
	l, failed := build(t, p, files)
	if failed != nil {
		t.Fatal(failed)
	}
	s := &stream.Stream{}
	s.Info.Conn = &stream.Conn{}
	l.Log(s)
	files.Close()
	return read(t, o), read(t, e)
}

func build(t *testing.T, p proto.Message, files *logfile.Set) (filter.AccessLog, error) {
	t.Helper()
	var r extension.Registry[filter.AccessLog, filter.Env]
	extension.Add(&r, NewStdout)
	extension.Add(&r, NewStderr)
	a, err := anypb.New(p)
	if err != nil {
		t.Fatal(err)
	}
	return r.Build(a, filter.Env{Process: &filter.Process{Files: files}})
}

func temporary(t *testing.T) *os.File {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func read(t *testing.T, f *os.File) string {
	t.Helper()
	b, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestStreams(t *testing.T) {
	const usual = "[-] \"- - -\" 0 - 0 0 0 - \"-\" \"-\" \"-\" \"-\" \"-\"\n"
	for name, c := range map[string]struct {
		p        proto.Message
		out, err string
	}{
		"stdout":                 {&streamv3.StdoutAccessLog{AccessLogFormat: &streamv3.StdoutAccessLog_LogFormat{LogFormat: text("out %RESPONSE_CODE%\n")}}, "out 0\n", ""},
		"stderr":                 {&streamv3.StderrAccessLog{AccessLogFormat: &streamv3.StderrAccessLog_LogFormat{LogFormat: text("err\n")}}, "", "err\n"},
		"stdout, default format": {&streamv3.StdoutAccessLog{}, usual, ""},
		"stderr, default format": {&streamv3.StderrAccessLog{}, "", usual},
	} {
		t.Run(name, func(t *testing.T) {
			if out, err := log(t, c.p); out != c.out || err != c.err {
				t.Errorf("out %q, err %q", out, err)
			}
		})
	}
}

func TestErrors(t *testing.T) {
	const want = "log_format.text_format: Not supported field in StreamInfo: NOPE"
	for _, p := range []proto.Message{
		&streamv3.StdoutAccessLog{AccessLogFormat: &streamv3.StdoutAccessLog_LogFormat{LogFormat: text("%NOPE%")}},
		&streamv3.StderrAccessLog{AccessLogFormat: &streamv3.StderrAccessLog_LogFormat{LogFormat: text("%NOPE%")}},
	} {
		if _, err := build(t, p, nil); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func TestLogDoesNotAllocate(t *testing.T) {
	stdout := os.Stdout
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	os.Stdout = null
	defer func() { os.Stdout = stdout; _ = null.Close() }()
	files := logfile.New(logfile.Options{}, (&stats.Store{}).Root())
	defer files.Close()
	l, err := build(t, &streamv3.StdoutAccessLog{}, files)
	if err != nil {
		t.Fatal(err)
	}
	s := &stream.Stream{}
	s.Info.Conn = &stream.Conn{}
	for range 1000 { // let the buffer grow
		l.Log(s)
	}
	if n := testing.AllocsPerRun(200, func() { l.Log(s) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
