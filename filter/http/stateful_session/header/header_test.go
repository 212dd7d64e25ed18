package header

import (
	"testing"

	headerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/stateful_session/header/v3"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/fieldtest"
)

func TestFields(t *testing.T) {
	fieldtest.Check(t, "fields.golden", &headerv3.HeaderBasedSessionState{})
}

func TestHeader(t *testing.T) {
	h, err := New(&headerv3.HeaderBasedSessionState{Name: "X-Sess"}, filter.Env{})
	if err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string]string{"": "", "MTI3LjAuMC4xOjk5OTk=": "127.0.0.1:9999", "junk!": ""} {
		s := &filter.Stream{}
		if in != "" {
			s.Request.Header.Add("x-sess", in)
		}
		if got, ok := h.Read(s); got != want || !ok {
			t.Errorf("%q: %q, %v", in, got, ok)
		}
	}
	s := &filter.Stream{}
	if h.Write(s, "127.0.0.1:9999", "127.0.0.1:9999") || s.Response.Header.Has("x-sess") {
		t.Error("the same host again needs no header")
	}
	moved := h.Write(s, "", "127.0.0.1:9999")
	if v, _ := s.Response.Header.Get("x-sess"); v != "MTI3LjAuMC4xOjk5OTk=" || !moved {
		t.Errorf("%q", v)
	}
	if _, err := New(&headerv3.HeaderBasedSessionState{}, filter.Env{}); err == nil {
		t.Error("no name")
	}
}
