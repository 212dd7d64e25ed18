package envelope

import (
	"encoding/base64"
	"testing"

	envelopev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/stateful_session/envelope/v3"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/fieldtest"
)

func TestFields(t *testing.T) {
	fieldtest.Check(t, "fields.golden", &envelopev3.EnvelopeSessionState{})
}

func TestEnvelope(t *testing.T) {
	e, err := New(&envelopev3.EnvelopeSessionState{Header: &envelopev3.EnvelopeSessionState_Header{Name: "Session"}}, filter.Env{})
	if err != nil {
		t.Fatal(err)
	}
	pack := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	for in, want := range map[string][2]string{
		pack("1.2.3.4:80") + ";UV:" + pack("abc"):   {"1.2.3.4:80", "abc"},
		pack("1.2.3.4:80") + ";x;UV:" + pack("abc"): {"1.2.3.4:80", "abc"},
		pack("1.2.3.4:80"):                          {"", pack("1.2.3.4:80")},
		pack("1.2.3.4:80") + ";UV:":                 {"", pack("1.2.3.4:80") + ";UV:"},
		"!;UV:" + pack("abc"):                       {"", "abc"},
		pack("1.2.3.4:80") + ";UV:!":                {"", pack("1.2.3.4:80") + ";UV:!"},
	} {
		s := &filter.Stream{}
		s.Request.Header.Add("session", in)
		got, ok := e.Read(s)
		if v, _ := s.Request.Header.Get("session"); got != want[0] || v != want[1] || !ok {
			t.Errorf("%s: %q, %q", in, got, v)
		}
	}
	if got, ok := e.Read(&filter.Stream{}); got != "" || !ok {
		t.Errorf("%q", got)
	}
	for n, want := range []string{"", pack("1.2.3.4:80") + ";UV:" + pack("abc"), "abc"} {
		s := &filter.Stream{}
		for range n {
			s.Response.Header.Add("session", "abc")
		}
		moved := e.Write(s, "", "1.2.3.4:80")
		if v, _ := s.Response.Header.Get("session"); v != want || moved != (n == 1) || e.Write(s, "1.2.3.4:80", "1.2.3.4:80") {
			t.Errorf("%d headers: %q", n, v)
		}
	}
}
