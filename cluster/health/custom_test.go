package health

import (
	"net"
	"testing"

	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/fiber/fibertest"
)

const (
	redis  = "custom_health_check: {name: r, typed_config: {'@type': type.googleapis.com/envoy.extensions.health_checkers.redis.v3.Redis}}"
	exists = "custom_health_check: {name: r, typed_config: {'@type': type.googleapis.com/envoy.extensions.health_checkers.redis.v3.Redis, key: k}}"
)

func thriftCheck(transport, protocol string) string {
	return "custom_health_check: {name: t, typed_config: {'@type': type.googleapis.com/envoy.extensions.health_checkers.thrift.v3.Thrift, method_name: ping, transport: " + transport + ", protocol: " + protocol + "}}"
}

// TestCustom has the answers of servers read in one piece and byte by byte. The requests are what Envoy 1.40 sends, but for its second stop byte.
func TestCustom(t *testing.T) {
	for _, c := range []struct {
		config, request, answer string
		ok                      bool
	}{
		{redis, "*1\r\n$4\r\nPING\r\n", "+PONG\r\n", true},
		{redis, "*1\r\n$4\r\nPING\r\n", "-NOAUTH Authentication required.\r\n", false},
		{redis, "*1\r\n$4\r\nPING\r\n", "-MOVED 1 10.0.0.1:1\r\n", true},
		{exists, "*2\r\n$6\r\nEXISTS\r\n$1\r\nk\r\n", ":0\r\n", true},
		{exists, "*2\r\n$6\r\nEXISTS\r\n$1\r\nk\r\n", ":1\r\n", false},
		{
			thriftCheck("FRAMED", "BINARY"), "\x00\x00\x00\x11\x80\x01\x00\x01\x00\x00\x00\x04ping\x00\x00\x00\x00\x00",
			"\x00\x00\x00\x11\x80\x01\x00\x02\x00\x00\x00\x04ping\x00\x00\x00\x00\x00", true,
		},
		{ // an exception
			thriftCheck("FRAMED", "BINARY"), "\x00\x00\x00\x11\x80\x01\x00\x01\x00\x00\x00\x04ping\x00\x00\x00\x00\x00",
			"\x00\x00\x00\x11\x80\x01\x00\x03\x00\x00\x00\x04ping\x00\x00\x00\x00\x00", false,
		},
		{ // a result: field 0
			thriftCheck("UNFRAMED", "BINARY"), "\x80\x01\x00\x01\x00\x00\x00\x04ping\x00\x00\x00\x00\x00",
			"\x80\x01\x00\x02\x00\x00\x00\x04ping\x00\x00\x00\x00\x02\x00\x00", true,
		},
		{ // a declared exception: field 1
			thriftCheck("UNFRAMED", "LAX_BINARY"), "\x00\x00\x00\x04ping\x01\x00\x00\x00\x00\x00",
			"\x00\x00\x00\x04ping\x02\x00\x00\x00\x00\x0c\x00\x01", false,
		},
		{
			thriftCheck("UNFRAMED", "COMPACT"), "\x82\x21\x00\x04ping\x00",
			"\x82\x41\x00\x04ping\x02\x00", true, // a boolean as field 0
		},
		{
			thriftCheck("FRAMED", "COMPACT"), "\x00\x00\x00\x09\x82\x21\x00\x04ping\x00",
			"\x00\x00\x00\x09\x82\x41\x00\x04ping\x1c", false, // field 1
		},
		{
			thriftCheck("HEADER", "COMPACT"), "\x00\x00\x00\x17\x0f\xff\x00\x00\x00\x00\x00\x00\x00\x01\x02\x00\x00\x00\x82\x21\x00\x04ping\x00",
			"\x00\x00\x00\x17\x0f\xff\x00\x00\x00\x00\x00\x00\x00\x01\x02\x00\x00\x00\x82\x41\x00\x04ping\x00", true,
		},
		{
			thriftCheck("HEADER", "BINARY"), "\x00\x00\x00\x1f\x0f\xff\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x80\x01\x00\x01\x00\x00\x00\x04ping\x00\x00\x00\x00\x00",
			"\x00\x00\x00\x02hi", false,
		},
	} {
		o, err := Parse(read(t, c.config))
		if err != nil {
			t.Fatal(err)
		}
		if string(o.custom.request) != c.request {
			t.Errorf("%s:\n sends %q\n want %q", c.config, o.custom.request, c.request)
		}
		for n := range len(c.answer) + 1 {
			if whole, ok := o.custom.read([]byte(c.answer[:n])); whole && (n < len(c.answer) && c.ok || ok != c.ok) {
				t.Errorf("%s: %d bytes of %q: whole %v, ok %v", c.config, n, c.answer, whole, ok)
			} else if n == len(c.answer) && !whole {
				t.Errorf("%s: %q is not whole", c.config, c.answer)
			}
		}
	}
}

func TestRedisOnTheWire(t *testing.T) {
	fibertest.Each(t, func(t *testing.T, w *fiber.Worker) {
		to, stop := serve(t, func(c net.Conn) {
			b := make([]byte, 100)
			for {
				if _, err := c.Read(b); err != nil {
					return
				}
				c.Write([]byte("+PO"))
				c.Write([]byte("NG\r\n"))
			}
		})
		defer stop()
		r := newRig(t, redis, w)
		r.to = to
		for range 2 {
			if v := r.check(); !v.Passed {
				t.Errorf("%+v", v)
			}
		}
		r.s.Close()
		_ = w.Sleep(1e6)
	})
}

func FuzzThrift(f *testing.F) {
	f.Add([]byte("\x80\x01\x00\x02\x00\x00\x00\x04ping\x00\x00\x00\x00\x02\x00\x00"))
	f.Add([]byte("\x82\x41\x00\x04ping\x02\x00"))
	f.Add([]byte("\x00\x00\x00\x17\x0f\xff\x00\x00\x00\x00\x00\x00\x00\x01\x02\x00\x00\x00\x82\x41\x00\x04ping\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, p := range []thrift{{}, {framed: true}, {header: true}, {compact: true}, {lax: true}, {header: true, compact: true}} {
			if whole, ok := p.read(b); ok && !whole {
				t.Errorf("%+v: %q is well, but not whole", p, b)
			}
		}
	})
}
