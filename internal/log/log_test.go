package log

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"google.golang.org/protobuf/types/known/structpb"
)

func TestPattern(t *testing.T) {
	e := zapcore.Entry{
		Level: zapcore.WarnLevel, LoggerName: "upstream", Time: time.Date(2026, 3, 4, 15, 6, 7, 89_012_345, time.UTC),
		Caller: zapcore.EntryCaller{Defined: true, File: "/x/cluster/pool/http1.go", Line: 42, Function: "x/pool.(*Conn).Close"},
	}
	r := &record{entry: e, message: "a\n\"b\"", thread: 7}
	for format, want := range map[string]string{
		DefaultFormat:             "[2026-03-04 15:06:07.089][7][warning][upstream] [pool/http1.go:42] a\n\"b\"",
		"%_":                      `a\n\"b\"`,
		`{"m":"%j"}`:              `{"m":"a\n\"b\""}`,
		"%L|%8l|%-8l|%=9l|":       "W| warning|warning | warning |",
		"%f %F %E":                "089012 089012345 1772636767",
		"%s %@ %! %%":             "http1.go pool/http1.go:42 pool.(*Conn).Close %",
		"%D %R %r %a %b %p %z":    "03/04/26 15:06 03:06:07 PM Wed Mar PM +00:00",
		"%A %B %C %I %h %x %X %c": "Wednesday March 26 03 Mar 03/04/26 15:06:07 Wed Mar  4 15:06:07 2026",
		"%q":                      "%q",
		"%^x%$":                   "x",
		"x%":                      "x",
		"%1":                      "",
	} {
		if got := string(CompilePattern(format, false).append(nil, r)); got != want {
			t.Errorf("%s: got %q, want %q", format, got, want)
		}
	}
	if got := string(CompilePattern("%v", true).append(nil, r)); got != `a\n\"b\"` {
		t.Errorf("escaped: %q", got)
	}
}

func FuzzPattern(f *testing.F) {
	f.Add(DefaultFormat, "x")
	f.Add("%-80l%=3j%", "\x00\"\n")
	f.Fuzz(func(_ *testing.T, format, message string) {
		CompilePattern(format, true).append(nil, &record{message: message, entry: zapcore.Entry{Level: 99}})
	})
}

func TestLevels(t *testing.T) {
	for _, name := range []string{"trace", "debug", "info", "warning", "error", "critical", "off"} {
		l, err := ParseLevel(name)
		if err != nil || LevelName(l) != name {
			t.Errorf("%s: %v, %v", name, LevelName(l), err)
		}
	}
	if l, err := ParseLevel("warn"); err != nil || l != zapcore.WarnLevel {
		t.Errorf("warn: %v, %v", l, err)
	}
	for in, want := range map[string]string{
		"upstream:foo": "invalid log level specified 'foo'", "nope:debug": "invalid component specified 'nope'",
		"upstream": "component log level not correctly specified 'upstream'", "a:b:c": "component log level not correctly specified 'a:b:c'",
		"upstream:debug,": "component log level not correctly specified ''",
	} {
		if _, err := ParseComponentLevels(in); err == nil || err.Error() != want {
			t.Errorf("%s: error %v, want %s", in, err, want)
		}
	}
	if got, err := ParseComponentLevels("upstream:debug,config:trace"); err != nil || len(got) != 2 || got[1] != (ComponentLevel{"config", Trace}) {
		t.Errorf("%v, %v", got, err)
	}
}

func TestLevelsByComponent(t *testing.T) {
	var out bytes.Buffer
	s := New(zapcore.InfoLevel, CompilePattern("%n %l %v", false), &out)
	up, main := s.Get("upstream"), s.Get("main")
	log := func() string {
		out.Reset()
		up.Debug("u")
		main.Debug("m")
		up.DPanic("p", zap.Int("n", 1))
		return out.String()
	}
	if got := log(); got != "upstream critical p {\"n\":1}\n" {
		t.Errorf("got %q", got)
	}
	if err := s.SetLevels([]ComponentLevel{{"upstream", zapcore.DebugLevel}, {"rbac", Off}}); err != nil {
		t.Fatal(err)
	}
	if got := log(); !strings.HasPrefix(got, "upstream debug u\nupstream critical") {
		t.Errorf("got %q", got)
	}
	if err := s.SetLevels([]ComponentLevel{{"upstream", Off}, {"nope", Off}}); err == nil || err.Error() != `no logger is named "nope"` {
		t.Errorf("error %v", err)
	}
	if err := s.SetLevel("nope", Off); err == nil {
		t.Error("no error")
	}
	if got := log(); got == "" {
		t.Error("a list with a mistake changed a level")
	}
	s.SetAll(Off)
	if got := log(); got != "" {
		t.Errorf("got %q", got)
	}
	n := 0
	s.Each(func(name string, l zapcore.Level) {
		if n++; l != Off {
			t.Errorf("%s: %v", name, l)
		}
	})
	if n != len(Components()) {
		t.Errorf("%d components", n)
	}
}

func TestDefaultLine(t *testing.T) {
	var out bytes.Buffer
	New(zapcore.InfoLevel, CompilePattern(DefaultFormat, false), &out).Get("main").With(zap.String("a", "b")).Info("hello")
	want := regexp.MustCompile(`^\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}\]\[\d+\]\[info\]\[main\] \[log/log_test\.go:\d+\] hello \{"a":"b"\}\n$`)
	if !want.MatchString(out.String()) {
		t.Errorf("got %q", out.String())
	}
	Discard().Get("main").Error("nothing")
}

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "p.log")
	f, err := OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s := New(zapcore.InfoLevel, CompilePattern("%v", false), f)
	s.Get("main").Info("one")
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	s.Get("main").Info("two")
	if err := s.Reopen(); err != nil {
		t.Fatal(err)
	}
	s.Get("main").Info("three")
	s.Close()
	for name, want := range map[string]string{path + ".1": "one\ntwo\n", path: "three\n"} {
		if got, err := os.ReadFile(name); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if _, err := OpenFile(filepath.Join(path, "x")); err == nil || !strings.HasPrefix(err.Error(), "failed to open log-file '") {
		t.Errorf("error %v", err)
	}
	if err := Discard().Reopen(); err != nil {
		t.Error(err)
	}
}

func TestConfig(t *testing.T) {
	fields := func(m map[string]any) *structpb.Struct {
		s, err := structpb.NewStruct(m)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	js := func(m map[string]any) *bootstrapv3.Bootstrap_ApplicationLogConfig {
		return &bootstrapv3.Bootstrap_ApplicationLogConfig{LogFormat: &bootstrapv3.Bootstrap_ApplicationLogConfig_LogFormat{
			LogFormat: &bootstrapv3.Bootstrap_ApplicationLogConfig_LogFormat_JsonFormat{JsonFormat: fields(m)},
		}}
	}
	p, err := CompileConfig(js(map[string]any{"m": "%j", "l": map[string]any{"level": "%l"}}))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	New(zapcore.InfoLevel, p, &out).Get("main").Info("a\"b")
	var got struct {
		M string `json:"m"`
		L struct {
			Level string `json:"level"`
		} `json:"l"`
	}
	if err := json.Unmarshal(out.Bytes(), &got); err != nil || got.M != `a"b` || got.L.Level != "info" {
		t.Errorf("%s: %+v, %v", out.String(), got, err)
	}
	if _, err := CompileConfig(js(map[string]any{"m": "%v"})); err == nil || err.Error() != "application_log_config.log_format.json_format: usage of %v is unavailable for JSON log formats: use %j" {
		t.Errorf("error %v", err)
	}
	if p, err := CompileConfig(nil); p != nil || err != nil {
		t.Errorf("%v, %v", p, err)
	}
	text := &bootstrapv3.Bootstrap_ApplicationLogConfig{LogFormat: &bootstrapv3.Bootstrap_ApplicationLogConfig_LogFormat{
		LogFormat: &bootstrapv3.Bootstrap_ApplicationLogConfig_LogFormat_TextFormat{TextFormat: "%n"},
	}}
	if p, err := CompileConfig(text); p == nil || err != nil || errors.Is(err, ErrTwoFormats) {
		t.Errorf("%v, %v", p, err)
	}
}
