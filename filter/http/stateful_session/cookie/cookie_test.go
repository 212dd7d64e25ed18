package cookie

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"

	cookiev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/stateful_session/cookie/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/type/http/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/fieldtest"
)

func TestFields(t *testing.T) {
	fieldtest.Check(t, "fields.golden", &cookiev3.CookieBasedSessionState{}, &httpv3.Cookie{}, &httpv3.CookieAttribute{})
}

func state(t *testing.T, c *httpv3.Cookie) *State {
	t.Helper()
	s, err := New(&cookiev3.CookieBasedSessionState{Cookie: c}, filter.Env{})
	if err != nil {
		t.Fatal(err)
	}
	return s.(*State)
}

// TestRoundTrip gives the cookie that was set back.
func TestRoundTrip(t *testing.T) {
	for name, c := range map[string]*httpv3.Cookie{
		"no ttl": {Name: "sess"},
		"ttl":    {Name: "sess", Path: "/p", Ttl: durationpb.New(time.Minute), Attributes: []*httpv3.CookieAttribute{{Name: "SameSite", Value: "Lax"}, {Name: "Secure"}}},
	} {
		k, s := state(t, c), &filter.Stream{}
		s.Request.Path = "/p/x"
		moved := k.Write(s, "", "10.0.0.1:80")
		set, _ := s.Response.Header.Get("set-cookie")
		want := "; HttpOnly"
		if c.GetTtl() != nil {
			want = "; Max-Age=60; Path=/p; SameSite=Lax; Secure; HttpOnly"
		}
		pair, tail, _ := strings.Cut(set, ";")
		if ";"+tail != want || !moved {
			t.Errorf("%s: %s", name, set)
		}
		s.Request.Header.Add("cookie", pair)
		if got, ok := k.Read(s); got != "10.0.0.1:80" || !ok {
			t.Errorf("%s: %q", name, got)
		}
		s.Response.Header.Reset()
		if k.Write(s, "10.0.0.1:80", "10.0.0.1:80") || s.Response.Header.Has("set-cookie") {
			t.Errorf("%s: the same host again needs no cookie", name)
		}
	}
}

func TestUnpack(t *testing.T) {
	message := func(b ...byte) string { return string(b) }
	for in, want := range map[string]string{
		"127.0.0.1:9999":                      "127.0.0.1:9999", // as Envoy wrote it once
		message(10, 3, 'a', ':', '1'):         "a:1",
		message(10, 3, 'a', ':', '1', 16, 9):  "",    // it has expired
		message(10, 3, 'a', ':', '1', 16, 10): "a:1", // it has not
		message(10, 3, 'a', ':', '1', 24, 1):  "a:1", // a field that we do not know
		message(16, 99):                       "",
		message(10, 9, 'a'):                   message(10, 9, 'a'), // no message
		message(10, 1, 0xff):                  message(10, 1, 0xff),
		"":                                    "",
	} {
		if got := unpack(in, 10); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestPath(t *testing.T) {
	for _, c := range []struct {
		cookie, path string
		want         bool
	}{
		{"", "/any", true},
		{"/", "/any", true},
		{"/foo/", "/foo/bar", true},
		{"/foo/", "/foo", false},
		{"/foo", "/foo", true},
		{"/foo", "/foo?a", true},
		{"/foo", "/foo#a", true},
		{"/foo", "/foo/bar", true},
		{"/foo", "/foobar", false},
		{"/foo", "/fo", false},
	} {
		s := &filter.Stream{}
		s.Request.Path = c.path
		s.Request.Header.Add("cookie", "n="+base64.StdEncoding.EncodeToString([]byte("h:1")))
		if _, ok := state(t, &httpv3.Cookie{Name: "n", Path: c.cookie}).Read(s); ok != c.want {
			t.Errorf("a cookie for %q, a request for %q: %v", c.cookie, c.path, ok)
		}
	}
}

func TestNoCookie(t *testing.T) {
	s := &filter.Stream{}
	s.Request.Header.Add("cookie", "a=b; n=junk!")
	if got, ok := state(t, &httpv3.Cookie{Name: "n"}).Read(s); got != "" || !ok {
		t.Errorf("%q", got)
	}
	if _, err := New(&cookiev3.CookieBasedSessionState{Cookie: &httpv3.Cookie{}}, filter.Env{}); err == nil {
		t.Error("no name")
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add("\x0a\x03a:1\x10\x09")
	f.Add("10.0.0.1:80")
	f.Fuzz(func(t *testing.T, v string) {
		if got := unpack(v, 10); len(got) > len(v) {
			t.Errorf("%q of %q", got, v)
		}
	})
}
