package harness

import (
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// Pages are those of an admin interface.
type Pages struct {
	tb    testing.TB
	admin string // address
}

// Ask calls a page.
func (p Pages) Ask(method, path string) Answer {
	p.tb.Helper()
	a, err := call(Client(p.admin), method, "http://admin"+path)
	if err != nil {
		p.tb.Fatal(err)
	}
	return a
}

// Page is the text of a page.
func (p Pages) Page(path string) string {
	p.tb.Helper()
	return p.Ask(http.MethodGet, path).Body
}

// Stat is the value of a counter or a gauge; 0 if there is none.
func (p Pages) Stat(name string) int {
	p.tb.Helper()
	for line := range strings.Lines(p.Page("/stats?filter=" + url.QueryEscape("^"+regexp.QuoteMeta(name)+"$"))) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), name+": "); ok {
			n, err := strconv.Atoi(v)
			if err != nil {
				p.tb.Fatal(err)
			}
			return n
		}
	}
	return 0
}

// WaitStat waits until a counter or a gauge has a value.
func (p Pages) WaitStat(name string, value int) {
	p.tb.Helper()
	p.Wait(name+": "+strconv.Itoa(value), func() bool { return p.Stat(name) == value })
}

// Wait waits for what is true of the proxy.
func (p Pages) Wait(what string, ok func() bool) {
	p.tb.Helper()
	if !Eventually(ok) {
		p.tb.Fatalf("never: %s\n%s", what, p.Page("/stats?usedonly"))
	}
}

// Dump is a part of /config_dump: the values of a repeated field of its messages.
func (p Pages) Dump(resource string) []map[string]any {
	p.tb.Helper()
	var d struct {
		Configs []map[string]any `json:"configs"`
	}
	p.read("/config_dump?resource="+resource, &d)
	return d.Configs
}

func (p Pages) read(path string, into any) {
	p.tb.Helper()
	text := p.Page(path)
	if err := json.Unmarshal([]byte(text), into); err != nil {
		p.tb.Fatalf("%v: %s", err, text)
	}
}
