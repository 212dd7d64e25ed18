// Package examples runs every file of examples/ as it stands, but for the ports: each listener is called, and each must answer.
package examples

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/outrigger-proxy/outrigger/listener"
	"github.com/outrigger-proxy/outrigger/test/harness"
)

var ports = regexp.MustCompile(`port_value: (\d+)`)

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
			host := harness.Host(t, func(w http.ResponseWriter, r *http.Request) { _, _ = fmt.Fprint(w, "hello ", r.URL.Path) })
			p := harness.Start(t, movePorts(string(text), harness.Port(host)))
			var addresses []string
			p.Control.Do(func() {
				p.Listeners.Each(func(v listener.View) { addresses = append(addresses, v.Addresses[0].String()) })
			})
			for _, a := range addresses {
				if got, err := harness.Exchange(harness.Dial(t, a), "/x"); got != "200 hello /x" {
					t.Errorf("%s: %q %v", a, got, err)
				}
			}
		})
	}
}
