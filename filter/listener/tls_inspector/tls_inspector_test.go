package tlsinspector

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	tlsinspectorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/tls_inspector/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/extension"
	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/fiber/fibertest"
	"github.com/outrigger-proxy/outrigger/internal/stats"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// caught keeps what a client writes first, and ends the handshake.
type caught struct {
	net.Conn
	bytes.Buffer
}

func (c *caught) Write(p []byte) (int, error)      { return c.Buffer.Write(p) }
func (c *caught) Read([]byte) (int, error)         { return 0, net.ErrClosed }
func (c *caught) SetDeadline(time.Time) error      { return nil }
func (c *caught) SetWriteDeadline(time.Time) error { return nil }
func (c *caught) Close() error                     { return nil }

// greeting is the ClientHello of a client of crypto/tls.
func greeting(c *tls.Config) []byte {
	conn := &caught{}
	c.InsecureSkipVerify = true
	_ = tls.Client(conn, c).Handshake()
	return conn.Bytes()
}

// respread puts the message of a hello into records of n bytes.
func respread(b []byte, n int) []byte {
	var out []byte
	for m := range slices.Chunk(b[recordHeader:], n) {
		out = append(out, handshakeRecord, 3, 1)
		out = binary.BigEndian.AppendUint16(out, uint16(len(m)))
		out = append(out, m...)
	}
	return out
}

func inspect(t *testing.T, w *fiber.Worker, p *tlsinspectorv3.TlsInspector, pieces ...[]byte) (*filter.Accepted, filter.Status, *stats.Store) {
	t.Helper()
	var r extension.Registry[filter.ListenerFilter, filter.Env]
	extension.Add(&r, New)
	a, err := anypb.New(p)
	if err != nil {
		t.Fatal(err)
	}
	store := &stats.Store{}
	f, err := r.Build(a, filter.Env{Process: &filter.Process{Stats: store}})
	if err != nil {
		t.Fatal(err)
	}
	client, server := fiber.Pipe(w)
	defer func() { _ = client.Close(); _ = server.Close() }()
	accepted := &filter.Accepted{Conn: server, Worker: w, Info: &stream.Conn{}}
	var writer fiber.Task
	writer.Start(w, func() {
		for _, b := range pieces {
			if _, err := client.Write(b); err != nil {
				return
			}
			w.Yield()
		}
		_ = client.CloseWrite()
	})
	status := f.OnAccept(accepted)
	if status == filter.Continue { // nothing is consumed
		if b, _ := server.Peek(1); len(b) > 0 && b[0] != pieces[0][0] {
			t.Error("the inspector has consumed something")
		}
	}
	_ = server.Close()
	_ = writer.Wait(w)
	return accepted, status, store
}

func TestInspector(t *testing.T) {
	both := greeting(&tls.Config{ServerName: "A.Example.org", NextProtos: []string{"h2", "http/1.1"}})
	bare := greeting(&tls.Config{MaxVersion: tls.VersionTLS12})
	large := greeting(&tls.Config{ServerName: "a.b", NextProtos: slices.Repeat([]string{strings.Repeat("x", 250)}, 70)})
	bytewise := slices.Collect(slices.Chunk(both, 1))
	strict := &tlsinspectorv3.TlsInspector{CloseConnectionOnClientHelloParsingErrors: true}
	for _, c := range []struct {
		name   string
		config *tlsinspectorv3.TlsInspector
		pieces [][]byte
		status filter.Status
		sni    string
		alpn   string
		proto  string
		count  string
	}{
		{"both", nil, [][]byte{both}, filter.Continue, "a.example.org", "h2,http/1.1", "tls", "tls_found sni_found alpn_found"},
		{"bytes", nil, bytewise, filter.Continue, "a.example.org", "h2,http/1.1", "tls", "tls_found sni_found alpn_found"},
		{"records", nil, [][]byte{respread(both, 7)}, filter.Continue, "a.example.org", "h2,http/1.1", "tls", "tls_found sni_found alpn_found"},
		{"records in bytes", nil, slices.Collect(slices.Chunk(respread(both, 50), 9)), filter.Continue, "a.example.org", "h2,http/1.1", "tls", "tls_found sni_found alpn_found"},
		{"bare", nil, [][]byte{bare}, filter.Continue, "", "", "tls", "tls_found sni_not_found alpn_not_found"},
		{"http", nil, [][]byte{[]byte("GET / HTTP/1.1\r\n\r\n")}, filter.Continue, "", "", "", "tls_not_found"},
		{"http, strict", strict, [][]byte{[]byte("GET / HTTP/1.1\r\n\r\n")}, filter.Stop, "", "", "", ""},
		{"server hello", nil, [][]byte{{22, 3, 1, 0, 4, 2, 0, 0, 0}}, filter.Continue, "", "", "", "tls_not_found"},
		{"first byte of another message", nil, [][]byte{{22, 3, 1, 1, 0, 2}}, filter.Continue, "", "", "", "tls_not_found"},
		{"too large", nil, [][]byte{large}, filter.Stop, "", "", "", "client_hello_too_large"},
		{"larger than allowed", &tlsinspectorv3.TlsInspector{MaxClientHelloSize: wrapperspb.UInt32(100)}, [][]byte{both}, filter.Stop, "", "", "", "client_hello_too_large"},
		{"ends too soon", nil, [][]byte{both[:60]}, filter.Stop, "", "", "", ""},
		{"nothing", nil, nil, filter.Stop, "", "", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			fibertest.Each(t, func(t *testing.T, w *fiber.Worker) {
				p := c.config
				if p == nil {
					p = &tlsinspectorv3.TlsInspector{}
				}
				a, status, store := inspect(t, w, p, c.pieces...)
				if status != c.status || a.Info.ServerName != c.sni || strings.Join(a.ApplicationProtocols, ",") != c.alpn || a.TransportProtocol != c.proto {
					t.Errorf("got %v %q %q %q", status, a.Info.ServerName, a.ApplicationProtocols, a.TransportProtocol)
				}
				if got := counted(store); got != c.count {
					t.Errorf("counted %q", got)
				}
			})
		})
	}
}

// counted names the counters that are not zero, in the order of the declaration.
func counted(s *stats.Store) string {
	i := stats.New[inspectorStats](s.Root().Sub("tls_inspector"))
	var l []string
	for _, c := range []struct {
		name string
		of   *stats.Counter
	}{
		{"client_hello_too_large", &i.TooLarge},
		{"tls_found", &i.Found},
		{"tls_not_found", &i.NotFound},
		{"sni_found", &i.SNIFound},
		{"sni_not_found", &i.SNINotFound},
		{"alpn_found", &i.ALPNFound},
		{"alpn_not_found", &i.ALPNNotFound},
	} {
		if c.of.Value() > 0 {
			l = append(l, c.name)
		}
	}
	return strings.Join(l, " ")
}

func TestFingerprints(t *testing.T) {
	// The hello of Chrome in the documentation of JA4, with GREASE in all places: t13d1516h2_8daaf6152771_e5627efa2ab1.
	h := hello{
		version: 0x0303, sni: []byte("x"), alpn: []byte("\x02h2\x08http/1.1"), versions: pairs(0x7a7a, 0x0304, 0x0303),
		ciphers: pairs(0x1a1a, 0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0xc013, 0xc014, 0x009c, 0x009d, 0x002f, 0x0035),
		extensions: []uint16{
			0x2a2a, 0x001b, 0x0000, 0x0033, 0x0010, 0x4469, 0x0017, 0x002d, 0x000d, 0x0005, 0x0023, 0x0012, 0x002b, 0xff01, 0x000b,
			0x000a, 0x0015,
		},
		schemes: pairs(0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601), groups: pairs(0x3a3a, 29, 23, 24), points: []byte{0},
	}
	if got := h.fingerprint4(); got != "t13d1516h2_8daaf6152771_e5627efa2ab1" {
		t.Errorf("JA4 %s", got)
	}
	// 771,4865-...,27-0-...,29-23-24,0
	if got := h.fingerprint3(); len(got) != 32 || got == (&hello{}).fingerprint3() {
		t.Errorf("JA3 %s", got)
	}
	empty := hello{version: 0x0302}
	if got := empty.fingerprint4(); got != "t11i000000_000000000000_000000000000" {
		t.Errorf("JA4 %s", got)
	}
	// https://github.com/salesforce/ja3: 769,4-5-10-9-100-98-3-6-19-18-99,,,
	old := hello{version: 769, ciphers: pairs(4, 5, 10, 9, 100, 98, 3, 6, 19, 18, 99)}
	if got := old.fingerprint3(); got != "de350869b8c85de67a350c8d186f11e6" {
		t.Errorf("JA3 %s", got)
	}
	full := hello{version: 769, ciphers: pairs(47, 53, 5, 10, 49161, 49162, 49171, 49172, 50, 56, 19, 4), extensions: []uint16{0, 10, 11}, groups: pairs(23, 24, 25), points: []byte{0}}
	if got := full.fingerprint3(); got != "ada70206e40642a3e4461f35503241d5" {
		t.Errorf("JA3 %s", got)
	}
}

func pairs(l ...uint16) []byte {
	var b []byte
	for _, v := range l {
		b = binary.BigEndian.AppendUint16(b, v)
	}
	return b
}

func TestRefused(t *testing.T) {
	for _, n := range []uint32{0, 16<<10 + 1} {
		if _, err := parse(&tlsinspectorv3.TlsInspector{MaxClientHelloSize: wrapperspb.UInt32(n)}); err == nil || !strings.HasPrefix(err.Error(), "max_client_hello_size: ") {
			t.Errorf("%d: %v", n, err)
		}
	}
}

// FuzzHello: whatever comes, the parser neither panics nor asks for what it has, and a hello is the same in any records.
func FuzzHello(f *testing.F) {
	b := greeting(&tls.Config{ServerName: "a.example.org", NextProtos: []string{"h2"}})
	f.Add(b)
	f.Add(respread(b, 3))
	f.Add(b[:70])
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, size, more, err := parseHello(b)
		switch {
		case err == nil && more > 0 && more <= len(b):
			t.Errorf("has %d, and asks for %d", len(b), more)
		case err == nil && more == 0 && size > len(b):
			t.Errorf("takes %d of %d", size, len(b))
		case err == nil && more == 0:
			_, _, _ = h.protocols(), h.fingerprint3(), h.fingerprint4()
		}
	})
}
