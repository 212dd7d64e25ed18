package grpc

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-proxy/outrigger/internal/header"
	"github.com/outrigger-proxy/outrigger/internal/stats"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

func TestContentTypes(t *testing.T) {
	for v, want := range map[string]bool{
		"application/grpc": true, "application/grpc+proto": true, "application/grpc+": true, "application/grpc-web": false,
		"application/grp": false, "application/grpc; charset=x": false, "": false, "Application/grpc": false,
	} {
		var h header.Map
		h.Add("content-type", v)
		if IsContentType(v) != want || IsRequest(&h) != want {
			t.Errorf("%q: %v, not %v", v, !want, want)
		}
	}
}

func TestResponses(t *testing.T) {
	body := &stream.Bytes{}
	for _, c := range []struct {
		contentType, status string
		code                int
		body                stream.Body
		want                bool
	}{
		{"application/grpc", "", 200, body, true},
		{"application/grpc", "", 503, body, false},
		{"text/plain", "0", 200, body, false},
		{"application/grpc", "", 200, nil, false},
		{"text/plain", "0", 503, nil, true},
	} {
		r := stream.Response{Status: c.code, Body: c.body}
		r.Header.Add("content-type", c.contentType)
		if c.status != "" {
			r.Header.Add("grpc-status", c.status)
		}
		if got := IsResponse(&r); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

func TestMethod(t *testing.T) {
	for path, want := range map[string]string{
		"/p.S/M": "p.S M", "/p.S/M?a=/b": "p.S M", "p.S//M/": "p.S M", "/p.S": "", "/": "", "": "", "/a/b/c": "", "?/p.S/M": "",
	} {
		got := ""
		if service, method, ok := Method(path); ok {
			got = service + " " + method
		}
		if got != want {
			t.Errorf("%q: %q, not %q", path, got, want)
		}
	}
}

func TestParseTimeout(t *testing.T) {
	for v, want := range map[string]time.Duration{
		"1H": time.Hour, "2M": 2 * time.Minute, "3S": 3 * time.Second, "4m": 4 * time.Millisecond, "0m": 0, "0n": 0,
		"1u": time.Millisecond, "1000u": time.Millisecond, "1001u": 2 * time.Millisecond, "1n": time.Millisecond,
		"99999999n": 100 * time.Millisecond, "99999999H": longest, "99999999S": 99999999 * time.Second, "000000001S": time.Second,
		"": -1, "1": -1, "m": -1, "1s": -1, "-1S": -1, "1.5S": -1, "100000000S": -1, "1 S": time.Second, " +3S": 3 * time.Second, "++3S": -1, "+ 3S": -1, "99999999999999999999S": -1,
	} {
		got, ok := ParseTimeout(v)
		if !ok {
			got = -1
		}
		if got != want {
			t.Errorf("%q: %v, not %v", v, got, want)
		}
	}
}

func TestAppendTimeout(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0m", -time.Second: "0m", 1500 * time.Microsecond: "1m", time.Hour: "3600000m", 99999999 * time.Millisecond: "99999999m",
		100000000 * time.Millisecond: "100000S", 99999999 * time.Second: "99999999S", 100000000 * time.Second: "1666666M",
		longest - 1: "76861433M", longest: "99999999H", math.MaxInt64: "99999999H",
	} {
		if got := string(AppendTimeout(nil, d)); got != want {
			t.Errorf("%v: %s, not %s", d, got, want)
		}
	}
}

func FuzzTimeout(f *testing.F) {
	for _, v := range []string{"1H", "99999999H", "1n", "x", ""} {
		f.Add(v)
	}
	f.Fuzz(func(t *testing.T, v string) {
		d, ok := ParseTimeout(v)
		if !ok {
			return
		}
		if d < 0 || d%time.Millisecond != 0 && d != longest {
			t.Fatalf("%q is %v", v, d)
		}
		again, ok := ParseTimeout(string(AppendTimeout(nil, d)))
		if !ok || again > d || d-again >= time.Hour && d != longest {
			t.Fatalf("%q is %v, and %v again", v, d, again)
		}
	})
}

func TestAppendMessage(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "plain text!": "plain text!", "100%": "100%25", "a\nb": "a%0Ab", "~": "%7E", "é": "%C3%A9", "\x7f\x00": "%7F%00",
	} {
		if got := string(AppendMessage(nil, []byte(text))); got != want {
			t.Errorf("%q: %q, not %q", text, got, want)
		}
	}
}

func TestStatuses(t *testing.T) {
	for _, c := range []struct {
		s            Status
		camel, snake string
		http         int
	}{
		{OK, "OK", "OK", 200},
		{Canceled, "Canceled", "CANCELLED", 499},
		{Unknown, "Unknown", "UNKNOWN", 500},
		{InvalidArgument, "InvalidArgument", "INVALID_ARGUMENT", 400},
		{DeadlineExceeded, "DeadlineExceeded", "DEADLINE_EXCEEDED", 504},
		{NotFound, "NotFound", "NOT_FOUND", 404},
		{AlreadyExists, "AlreadyExists", "ALREADY_EXISTS", 409},
		{PermissionDenied, "PermissionDenied", "PERMISSION_DENIED", 403},
		{ResourceExhausted, "ResourceExhausted", "RESOURCE_EXHAUSTED", 429},
		{FailedPrecondition, "FailedPrecondition", "FAILED_PRECONDITION", 400},
		{Aborted, "Aborted", "ABORTED", 409},
		{OutOfRange, "OutOfRange", "OUT_OF_RANGE", 400},
		{Unimplemented, "Unimplemented", "UNIMPLEMENTED", 501},
		{Internal, "Internal", "INTERNAL", 500},
		{Unavailable, "Unavailable", "UNAVAILABLE", 503},
		{DataLoss, "DataLoss", "DATA_LOSS", 500},
		{Unauthenticated, "Unauthenticated", "UNAUTHENTICATED", 401},
		{17, "17", "17", 500},
		{Invalid, "-1", "-1", 500},
	} {
		if c.s.Camel() != c.camel || c.s.Snake() != c.snake || c.s.HTTP() != c.http {
			t.Errorf("%d: %s %s %d, not %+v", c.s, c.s.Camel(), c.s.Snake(), c.s.HTTP(), c)
		}
	}
	for status, want := range map[int]Status{
		200: Unknown, 400: Internal, 401: Unauthenticated, 403: PermissionDenied, 404: Unimplemented, 429: Unavailable, 500: Unknown,
		502: Unavailable, 503: Unavailable, 504: Unavailable,
	} {
		if got := FromHTTP(status); got != want {
			t.Errorf("%d: %v, not %v", status, got, want)
		}
	}
	for v, want := range map[string]Status{"0": OK, "16": Unauthenticated, "99": 99, "x": Invalid, "-1": Invalid, "1e9": Invalid} {
		if got := ParseStatus(v); got != want {
			t.Errorf("%q: %v, not %v", v, got, want)
		}
	}
}

// TestStatusOfStream prefers trailers to the head, and the head to the HTTP status.
func TestStatusOfStream(t *testing.T) {
	var s stream.Stream
	if _, ok := StatusOfStream(&s); ok {
		t.Error("a status without a response")
	}
	s.Info.Status = 503
	s.Response.Trailer.Add("grpc-status", "")
	for _, want := range []Status{Unavailable, NotFound, Aborted} {
		if got, ok := StatusOfStream(&s); got != want || !ok {
			t.Errorf("%v, not %v", got, want)
		}
		if want == NotFound {
			s.Response.Trailer.Set("grpc-status", "10")
		}
		s.Response.Header.Set("grpc-status", "5")
	}
}

// scan takes bodies apart and writes down what it finds.
func scan(s *Scanner, pieces ...[]byte) string {
	var b strings.Builder
	for _, p := range pieces {
		for len(p) > 0 {
			part := s.Scan(p)
			p = p[len(part.Bytes):]
			if part.Begins {
				b.WriteByte('<')
			}
			b.Write(part.Bytes[part.Head:])
			if part.Ends {
				b.WriteByte('>')
				b.WriteByte('0' + part.Flags)
			}
		}
	}
	return b.String()
}

func TestScanner(t *testing.T) {
	body := AppendHead(nil, 0, 3)
	body = append(body, "abc"...)
	body = AppendHead(body, 1, 0)
	body = AppendHead(body, 2, 5)
	body = append(body, "hello"...)
	const want = "<abc>0<>1<hello>2"
	var whole Scanner
	if got := scan(&whole, body); got != want {
		t.Errorf("%s, not %s", got, want)
	}
	var bytes Scanner
	pieces := make([][]byte, len(body))
	for i := range body {
		pieces[i] = body[i : i+1]
	}
	if got := scan(&bytes, pieces...); got != want {
		t.Errorf("byte by byte: %s, not %s", got, want)
	}
	var counted Scanner
	if n := counted.Count(body[:6]) + counted.Count(body[6:9]) + counted.Count(body[9:]); n != 3 {
		t.Errorf("%d frames", n)
	}
}

// FuzzScanner compares a body in one piece with the same body in two.
func FuzzScanner(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 1, 'x', 0, 0, 0, 0, 0}, 3)
	f.Add([]byte{0, 0xff, 0xff, 0xff, 0xff, 1}, 5)
	f.Fuzz(func(t *testing.T, body []byte, at int) {
		if at < 0 || at > len(body) {
			return
		}
		var one, two Scanner
		a, b := scan(&one, body), scan(&two, body[:at], body[at:])
		if a != b || one != two {
			t.Fatalf("%q in one piece, %q in two", a, b)
		}
	})
}

func TestBook(t *testing.T) {
	store := &stats.Store{}
	cluster := store.Root().Sub("cluster").Sub("c")
	book, other := NewBook("grpc", false), NewBook("grpc", false)
	calls := book.Calls(cluster, "p.S", "M")
	if calls != book.Calls(cluster, "p.S", "M") || calls == book.Calls(cluster, "p.S", "N") {
		t.Error("methods are mixed up")
	}
	calls.Ended("0")
	calls.Ended("14")
	other.Calls(cluster, "p.S", "M").Ended("14")
	calls.Ended("strange")
	calls.Ended("014")
	calls.Requests.Add(3)
	book.Calls(cluster, "", "").Done(true)
	NewBook("grpc-web", true).Calls(cluster, "p.S", "M").Done(false)
	got := map[string]uint64{}
	for _, s := range store.Snapshot(nil) {
		got[strings.TrimPrefix(s.Name, "cluster.c.")] = s.Counter
	}
	want := map[string]uint64{
		"grpc.p.S.M.0": 1, "grpc.p.S.M.14": 2, "grpc.p.S.M.strange": 1, "grpc.p.S.M.014": 1, "grpc.p.S.M.success": 1, "grpc.p.S.M.failure": 4,
		"grpc.p.S.M.total": 5, "grpc.p.S.M.request_message_count": 3, "grpc.success": 1, "grpc.total": 1,
		"grpc-web.p_S.M.failure": 1, "grpc-web.p_S.M.total": 1,
	}
	for name, n := range want {
		if got[name] != n {
			t.Errorf("%s: %d, not %d", name, got[name], n)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%v", got)
	}
	if n := testing.AllocsPerRun(100, func() { book.Calls(cluster, "p.S", "M").Ended("14") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
