package httpinspector

import (
	"slices"
	"strings"
	"testing"
	"time"

	httpinspectorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/http_inspector/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/extension"
	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/fiber/fibertest"
	"github.com/outrigger-proxy/outrigger/internal/fieldtest"
	"github.com/outrigger-proxy/outrigger/internal/stats"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

func TestFields(t *testing.T) { fieldtest.Check(t, "fields.golden", &httpinspectorv3.HttpInspector{}) }

func build(t *testing.T) (filter.ListenerFilter, *stats.Store) {
	t.Helper()
	var r extension.Registry[filter.ListenerFilter, filter.Env]
	extension.Add(&r, New)
	a, err := anypb.New(&httpinspectorv3.HttpInspector{})
	if err != nil {
		t.Fatal(err)
	}
	store := &stats.Store{}
	f, err := r.Build(a, filter.Env{Process: &filter.Process{Stats: store}})
	if err != nil {
		t.Fatal(err)
	}
	return f, store
}

func counter(s *stats.Store, name string) uint64 {
	for _, st := range s.Snapshot(func(n string) bool { return n == "http_inspector."+name }) {
		return st.Counter
	}
	return 0
}

func TestInspection(t *testing.T) {
	for _, c := range []struct{ sent, want, stat string }{
		{"GET / HTTP/1.1\r\n", "http/1.1", "http11_found"},
		{"GET / HTTP/1.1\n", "http/1.1", "http11_found"},
		{"M-SEARCH * HTTP/1.0\r\nmore", "http/1.0", "http10_found"},
		{"POST /a b HTTP/1.1\r\n", "http/1.1", "http11_found"},
		{"GET / HTTP/2.7\r\n", "http/1.0", "http10_found"},
		{preface, "h2c", "http2_found"},
		{preface[:10], "waits", ""},
		{"PRI * HTTP/2.0\r\n\r\nXX", "http/1.0", "http10_found"},
		{"GET / HTTP/1.1", "waits", ""},
		{"not http at all\n", "", "http_not_found"},
		{"\x16\x03\x01", "", "http_not_found"},
		{"GETS / HTTP/1.1\r\n", "http/1.1", "http11_found"},
		{"G@T / HTTP/1.1\r\n", "", "http_not_found"},
		{"GET /\r\n", "", "http_not_found"},
		{"GET / HTTP/11\r\n", "", "http_not_found"},
		{"GET  HTTP/1.1\r\n", "", "http_not_found"},
		{"GET /" + strings.Repeat("x", maxLine), "", "http_not_found"},
		{"", "waits", ""},
	} {
		fibertest.Each(t, func(t *testing.T, w *fiber.Worker) {
			f, store := build(t)
			if got := inspect(w, f, c.sent); got != c.want {
				t.Errorf("%.40q: got %q, want %q", c.sent, got, c.want)
			}
			if c.stat != "" && counter(store, c.stat) != 1 {
				t.Errorf("%.40q: %s is not counted", c.sent, c.stat)
			}
		})
	}
}

// inspect says what the filter found when text came in two pieces.
func inspect(w *fiber.Worker, f filter.ListenerFilter, text string) string {
	client, server := fiber.Pipe(w)
	defer func() { _ = client.Close(); _ = server.Close() }()
	var sender fiber.Task
	sender.Start(w, func() {
		_, _ = client.Write([]byte(text[:len(text)/2]))
		_ = w.Sleep(0)
		_, _ = client.Write([]byte(text[len(text)/2:]))
	})
	defer sender.Join(w)
	fb := w.Current()
	defer fb.Restore(fb.SetLimit(fiber.Limit{At: w.Now().Add(30 * time.Millisecond)}))
	a := &filter.Accepted{Conn: server, Worker: w, Info: &stream.Conn{}}
	if f.OnAccept(a) == filter.Stop {
		return "waits"
	}
	return strings.Join(a.ApplicationProtocols, ",")
}

func TestTLSIsLeftAlone(t *testing.T) {
	f, _ := build(t)
	if f.OnAccept(&filter.Accepted{TransportProtocol: "tls"}) != filter.Continue { // there is no connection to peek at
		t.Error("it stops")
	}
}

func TestClassifyAllocatesNothing(t *testing.T) {
	b := []byte("GET /path HTTP/1.1\r\nhost: x\r\n")
	if n := testing.AllocsPerRun(100, func() { _ = classify(b) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzClassify(f *testing.F) {
	for _, s := range []string{"GET / HTTP/1.1\r\n", preface, "PRI", "G\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == 0 {
			return
		}
		v := classify(b)
		if v != unknown && v != classify(append(slices.Clip(b), "\r\nmore"...)) && v != notHTTP {
			t.Errorf("%q: more bytes change the verdict", b)
		}
	})
}
