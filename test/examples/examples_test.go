// Package examples runs every file of examples/ as it stands, but for the ports: each listener is called, and each must answer.
package examples

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"

	"github.com/outrigger-proxy/outrigger/filter/all"
	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/log"
	"github.com/outrigger-proxy/outrigger/listener"
	"github.com/outrigger-proxy/outrigger/proxy"
	"github.com/outrigger-proxy/outrigger/proxy/bootstrap"
)

var ports = regexp.MustCompile(`port_value: (\d+)`)

// server answers HTTP requests and echoes anything else, so that it can stand for every upstream.
func server(t *testing.T) string {
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = fmt.Fprint(w, "hello ", r.URL.Path) }))
	t.Cleanup(h.Close)
	_, port, _ := net.SplitHostPort(h.Listener.Addr().String())
	return port
}

// movePorts gives listeners and the admin interface any free port, and each upstream the server.
func movePorts(text, upstream string) string {
	return ports.ReplaceAllStringFunc(text, func(m string) string {
		if strings.HasSuffix(m, ": 9901") || strings.Contains(m, ": 1000") || strings.Contains(m, ": 1500") {
			return "port_value: 0"
		}
		return "port_value: " + upstream
	})
}

func TestExamples(t *testing.T) {
	paths, err := filepath.Glob("../../examples/*.yaml")
	if err != nil || len(paths) == 0 {
		t.Fatal("no examples", err)
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			r, err := bootstrap.Load(bootstrap.Source{YAML: movePorts(string(text), server(t))})
			if err != nil {
				t.Fatal(err)
			}
			engine := fiber.New
			if os.Getenv("OUTRIGGER_ENGINE") == "goroutine" {
				engine = fiber.NewGoroutines
			}
			p, err := proxy.New(r.Bootstrap, proxy.Options{
				Flags: &adminv3.CommandLineOptions{Concurrency: 1}, Extensions: all.Extensions(),
				Logs: log.Discard(), Engine: engine,
			})
			if err != nil {
				t.Fatal(err)
			}
			ended := make(chan struct{})
			go func() { p.Run(); close(ended) }() // ends with Quit
			defer func() { p.Quit(); <-ended }()
			<-p.Live()
			var addresses []string
			p.Control.Do(func() {
				p.Listeners.Each(func(v listener.View) { addresses = append(addresses, v.Addresses[0].String()) })
			})
			for _, a := range addresses {
				call(t, a)
			}
		})
	}
}

// call sends a request, which also an echo of it would answer.
func call(t *testing.T, address string) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.WriteString(c, "GET /x HTTP/1.1\r\nhost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(res.Body); err != nil || res.StatusCode != http.StatusOK || string(body) != "hello /x" {
		t.Errorf("%s: %s %q %v", address, res.Status, body, err)
	}
}
