package directresponse

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	directresponsev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/direct_response/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/extension"
	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/fiber/fibertest"
	"github.com/outrigger-proxy/outrigger/internal/fieldtest"
)

func TestFields(t *testing.T) {
	fieldtest.Check(t, "fields.golden", &directresponsev3.Config{}, &corev3.DataSource{})
}

func build(t *testing.T, s *corev3.DataSource) (filter.Terminal, error) {
	t.Helper()
	var r extension.Registry[any, filter.Env]
	extension.Add(&r, New)
	a, err := anypb.New(&directresponsev3.Config{Response: s})
	if err != nil {
		t.Fatal(err)
	}
	v, err := r.Build(a, filter.Env{Process: &filter.Process{}})
	if err != nil {
		return nil, err
	}
	return v.(filter.Terminal), nil
}

func TestResponse(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("OUTRIGGER_RESPONSE", "hello")
	for _, s := range []*corev3.DataSource{
		{Specifier: &corev3.DataSource_InlineString{InlineString: "hello"}},
		{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: []byte("hello")}},
		{Specifier: &corev3.DataSource_Filename{Filename: file}},
		{Specifier: &corev3.DataSource_EnvironmentVariable{EnvironmentVariable: "OUTRIGGER_RESPONSE"}},
	} {
		fibertest.Each(t, func(t *testing.T, w *fiber.Worker) {
			f, err := build(t, s)
			if err != nil {
				t.Fatal(err)
			}
			client, server := fiber.Pipe(w)
			ended := 0
			f.Open(&filter.Conn{Conn: server, Worker: w, Ended: func() { ended++ }})
			got, err := io.ReadAll(client)
			if string(got) != "hello" || err != nil || ended != 1 {
				t.Errorf("got %q %v, ended %d times", got, err, ended)
			}
			_ = client.Close()
		})
	}
}

func TestRefusals(t *testing.T) {
	for want, s := range map[string]*corev3.DataSource{
		"response.environment_variable: Environment variable doesn't exist: OUTRIGGER_NOT_THERE": {Specifier: &corev3.DataSource_EnvironmentVariable{EnvironmentVariable: "OUTRIGGER_NOT_THERE"}},
		"response.filename: open /nowhere/x: no such file or directory":                          {Specifier: &corev3.DataSource_Filename{Filename: "/nowhere/x"}},
		"response.watched_directory: is not supported here: the response is read once":           {WatchedDirectory: &corev3.WatchedDirectory{Path: "/"}},
	} {
		if _, err := build(t, s); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
