package proxyprotocol

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	proxyprotocolv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/proxy_protocol/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/extension"
	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/fiber/fibertest"
	"github.com/outrigger-proxy/outrigger/internal/fieldtest"
	"github.com/outrigger-proxy/outrigger/internal/protofile"
	"github.com/outrigger-proxy/outrigger/internal/stats"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

func TestFields(t *testing.T) {
	fieldtest.Check(t, "fields.golden", &proxyprotocolv3.ProxyProtocol{}, &corev3.ProxyProtocolPassThroughTLVs{})
}

// build makes the filter of YAML, through the registry.
func build(t testing.TB, text string) (filter.ListenerFilter, *stats.Store) {
	t.Helper()
	p := &proxyprotocolv3.ProxyProtocol{}
	if text == "" {
		text = "{}"
	}
	if unknown, err := protofile.Parse([]byte(text), protofile.YAML, p); err != nil || len(unknown) > 0 {
		t.Fatalf("%v %v", err, unknown)
	}
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
	return f, store
}

func v2(command, family byte, body []byte) string {
	return signature2 + string([]byte{command, family}) + string(binary.BigEndian.AppendUint16(nil, uint16(len(body)))) + string(body)
}

var (
	four = []byte{1, 2, 3, 4, 5, 6, 7, 8, 0, 11, 0, 22}
	six  = append(append(append(make([]byte, 0, 36), "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01"...), "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02"...), 0, 11, 0, 22)
)

// The verdicts are those of Envoy 1.40, but for the statistics of the filter chain around it.
func TestHeaders(t *testing.T) {
	const optional = "allow_requests_without_proxy_protocol: true"
	for _, c := range []struct {
		name, config, sent string
		want               string // remote>local, then the rest of what was sent; "closed"; "waits"
		stat               string
	}{
		{"v1", "", "PROXY TCP4 1.2.3.4 5.6.7.8 11 22\r\nrest", "1.2.3.4:11>5.6.7.8:22 rest", "versions.v1.found"},
		{"v1 of IPv6", "", "PROXY TCP6 2001:db8::1 2001:db8::2 11 22\r\nrest", "[2001:db8::1]:11>[2001:db8::2]:22 rest", "versions.v1.found"},
		{"v1 unknown", "", "PROXY UNKNOWN\r\nrest", "> rest", "versions.v1.found"},
		{"v1 unknown with anything", "", "PROXY UNKNOWN a b c\r\nrest", "> rest", "versions.v1.found"},
		{"v1 with a space at the end", "", "PROXY TCP4 1.2.3.4 5.6.7.8 11 22 \r\n", "1.2.3.4:11>5.6.7.8:22 ", "versions.v1.found"},
		{"v1 with leading zeros", "", "PROXY TCP4 1.2.3.4 5.6.7.8 011 22\r\n", "1.2.3.4:11>5.6.7.8:22 ", "versions.v1.found"},
		{"v1 as long as may be", "", "PROXY UNKNOWN " + strings.Repeat("x", 92) + "\r\n", "> ", "versions.v1.found"},
		{"v1 too long", "", "PROXY UNKNOWN " + strings.Repeat("x", 93) + "\r\n", "closed", "versions.v1.error"},
		{"v1 without its CR", "", "PROXY TCP4 1.2.3.4 5.6.7.8 11 22\n", "waits", ""},
		{"v1 too few parts", "", "PROXY TCP4 1.2.3.4 5.6.7.8 11\r\n", "closed", "versions.v1.error"},
		{"v1 two spaces", "", "PROXY  TCP4 1.2.3.4 5.6.7.8 11 22\r\n", "closed", "versions.v1.error"},
		{"v1 mixed families", "", "PROXY TCP4 1.2.3.4 ::1 11 22\r\n", "closed", "versions.v1.error"},
		{"v1 family and address", "", "PROXY TCP6 1.2.3.4 5.6.7.8 11 22\r\n", "closed", "versions.v1.error"},
		{"v1 port too big", "", "PROXY TCP4 1.2.3.4 5.6.7.8 65536 22\r\n", "closed", "versions.v1.error"},
		{"v1 port below zero", "", "PROXY TCP4 1.2.3.4 5.6.7.8 -1 22\r\n", "closed", "versions.v1.error"},
		{"v1 multicast", "", "PROXY TCP4 224.0.0.1 5.6.7.8 1 22\r\n", "closed", "versions.v1.error"},
		{"v1 unix", "", "PROXY UNIX a b c d\r\n", "closed", "versions.v1.error"},
		{"v1 disallowed", "disallowed_versions: [V1]", "PROXY TCP4 1.2.3.4 5.6.7.8 11 22\r\n", "closed", "versions.v1.disallowed"},
		{"v1 disallowed but optional", optional + "\ndisallowed_versions: [V1]", "PROXY UNKNOWN\r\n", "> PROXY UNKNOWN\r\n", "not_found_allowed"},
		{"v2", "", v2(0x21, 0x11, four) + "rest", "1.2.3.4:11>5.6.7.8:22 rest", "versions.v2.found"},
		{"v2 over UDP", "", v2(0x21, 0x12, four), "1.2.3.4:11>5.6.7.8:22 ", "versions.v2.found"},
		{"v2 of IPv6", "", v2(0x21, 0x21, six), "[2001:db8::1]:11>[2001:db8::2]:22 ", "versions.v2.found"},
		{"v2 local", "", v2(0x20, 0x11, four) + "rest", "> rest", "versions.v2.found"},
		{"v2 unspecified", "", v2(0x21, 0, nil), "closed", "versions.v2.error"},
		{"v2 unix", "", v2(0x21, 0x31, make([]byte, 216)), "closed", "versions.v2.error"},
		{"v2 of another version", "", v2(0x11, 0x11, four), "closed", "versions.v2.error"},
		{"v2 unknown command", "", v2(0x22, 0x11, four), "closed", "versions.v2.error"},
		{"v2 short addresses", "", v2(0x21, 0x11, four[:11]), "closed", "versions.v2.error"},
		{"v2 any address", "", v2(0x21, 0x21, make([]byte, 36)), "closed", "versions.v2.error"},
		{"v2 short TLV", "", v2(0x21, 0x11, append(four[:12:12], 2, 0)), "closed", "versions.v2.error"},
		{"v2 TLV beyond the end", "", v2(0x21, 0x11, append(four[:12:12], 2, 0, 9, 'a')), "closed", "versions.v2.error"},
		{"v2 disallowed", "disallowed_versions: [V2]", v2(0x21, 0x11, four), "closed", "versions.v2.disallowed"},
		{"none", "", "GET / HTTP/1.1\r\n", "closed", "not_found_disallowed"},
		{"none but optional", optional, "GET / HTTP/1.1\r\n", "> GET / HTTP/1.1\r\n", "not_found_allowed"},
		{"nearly one but optional", optional, "PROXY\r\n", "> PROXY\r\n", "not_found_allowed"},
		{"may become one", optional, "PROX", "waits", ""},
		{"nothing yet", "", "", "waits", ""},
		{"another prefix", "stat_prefix: x", "PROXY UNKNOWN\r\n", "> ", "x.versions.v1.found"},
	} {
		t.Run(c.name, func(t *testing.T) {
			fibertest.Each(t, func(t *testing.T, w *fiber.Worker) {
				f, store := build(t, c.config)
				if got := run(w, f, c.sent, len(c.sent)); got.text != c.want {
					t.Errorf("got %q, want %q", got.text, c.want)
				}
				if c.stat != "" && counter(store, "proxy_proto."+c.stat) != 1 {
					t.Errorf("%s is not counted", c.stat)
				}
			})
		})
	}
}

type outcome struct {
	text string
	info *stream.Conn
}

// run hands the filter a connection on which text comes in pieces, and says what became of it.
func run(w *fiber.Worker, f filter.ListenerFilter, text string, piece int) outcome {
	client, server := fiber.Pipe(w)
	defer func() { _ = client.Close(); _ = server.Close() }()
	var sender fiber.Task
	sender.Start(w, func() {
		for len(text) > 0 {
			n := min(max(piece, 1), len(text))
			if _, err := client.Write([]byte(text[:n])); err != nil {
				return
			}
			text = text[n:]
			_ = w.Sleep(0)
		}
	})
	defer sender.Join(w)
	info := &stream.Conn{}
	fb := w.Current()
	defer fb.Restore(fb.SetLimit(fiber.Limit{At: w.Now().Add(30 * time.Millisecond)}))
	a := &filter.Accepted{Conn: server, Worker: w, Info: info}
	if f.OnAccept(a) == filter.Stop {
		if a.Failure() != nil {
			return outcome{"waits", info}
		}
		return outcome{"closed", info}
	}
	rest := make([]byte, 100)
	n := 0
	_ = sender.Wait(w)
	if server.Readable() {
		n, _ = server.TryRead(rest)
	}
	return outcome{fmt.Sprintf("%s>%s %s", info.Remote, info.Local, rest[:n]), info}
}

func counter(s *stats.Store, name string) uint64 {
	for _, st := range s.Snapshot(func(n string) bool { return n == name }) {
		return st.Counter
	}
	return 0
}

func TestHeadersInPieces(t *testing.T) {
	fibertest.Each(t, func(t *testing.T, w *fiber.Worker) {
		for _, sent := range []string{"PROXY TCP4 1.2.3.4 5.6.7.8 11 22\r\n", v2(0x21, 0x11, four)} {
			f, _ := build(t, "")
			if got := run(w, f, sent, 1); got.text != "1.2.3.4:11>5.6.7.8:22 " {
				t.Errorf("%q: got %q", sent, got.text)
			}
		}
	})
}

func tlvs(l ...string) []byte {
	b := four[:12:12]
	for _, t := range l {
		b = append(b, t[0])
		b = binary.BigEndian.AppendUint16(b, uint16(len(t)-1))
		b = append(b, t[1:]...)
	}
	return b
}

func TestTLVs(t *testing.T) {
	const rules = `
rules:
- {tlv_type: 2, on_tlv_present: {key: authority}}
- {tlv_type: 0xea, on_tlv_present: {metadata_namespace: aws, key: id, value_string_encoding: BASE64}}
- {tlv_type: 3}
`
	sent := v2(0x21, 0x11, tlvs("\x02a\xffb", "\xea\x01\x02", "\x03x", "\x04y"))
	fibertest.Each(t, func(t *testing.T, w *fiber.Worker) {
		f, _ := build(t, rules)
		m := run(w, f, sent, 1<<20).info.Metadata
		if m[namespace]["authority"] != "a!b" || m["aws"]["id"] != "AQI=" || len(m) != 2 || len(m[namespace]) != 1 {
			t.Errorf("%v", m)
		}
		f, _ = build(t, rules+"tlv_location: FILTER_STATE")
		i := run(w, f, sent, 1<<20).info
		if s, _ := i.State[TLVState].(map[string]string); s["authority"] != "a!b" || s["id"] != "AQI=" || i.Metadata != nil {
			t.Errorf("%v %v", i.State, i.Metadata)
		}
	})
}

func TestPassThrough(t *testing.T) {
	sent := v2(0x21, 0x11, tlvs("\x02a", "\x03b"))
	fibertest.Each(t, func(t *testing.T, w *fiber.Worker) {
		for config, want := range map[string]string{
			"pass_through_tlvs: {match_type: INCLUDE_ALL}":            "2a3b",
			"pass_through_tlvs: {match_type: INCLUDE, tlv_type: [3]}": "3b",
		} {
			f, _ := build(t, config)
			p, _ := run(w, f, sent, 1<<20).info.State[stream.ProxyProtocolState].(*stream.ProxyProtocol)
			got := ""
			for _, v := range p.TLVs {
				got += fmt.Sprintf("%d%s", v.Type, v.Value)
			}
			if got != want || p.Remote.String() != "1.2.3.4:11" || p.Local.String() != "5.6.7.8:22" {
				t.Errorf("%s: %+v", config, p)
			}
		}
		f, _ := build(t, "")
		if s := run(w, f, sent, 1<<20).info.State; s != nil {
			t.Errorf("%v", s)
		}
	})
}

func TestRefusals(t *testing.T) {
	_, err := parse(&proxyprotocolv3.ProxyProtocol{Rules: []*proxyprotocolv3.ProxyProtocol_Rule{{TlvType: 256}}})
	if err == nil || err.Error() != "rules[0].tlv_type: 256 is more than 255" {
		t.Errorf("got %v", err)
	}
}

func TestVersion2DoesNotAllocate(t *testing.T) {
	b := []byte(v2(0x21, 0x21, six))
	if n := testing.AllocsPerRun(100, func() { _, _ = parse2(b) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzHeader(f *testing.F) {
	f.Add([]byte("PROXY TCP4 1.2.3.4 5.6.7.8 11 22"), []byte(v2(0x21, 0x11, tlvs("\x02a"))))
	f.Add([]byte("PROXY UNKNOWN"), []byte(v2(0x21, 0x21, six)))
	f.Add([]byte("PROXY TCP6 ::1 ::1 1 2"), []byte(v2(0x20, 0, nil)))
	f.Fuzz(func(t *testing.T, line, binary []byte) {
		if h, err := parse1(line); err == nil && !h.local && (!h.remote.IsValid() || !h.dest.IsValid()) {
			t.Errorf("%q: no addresses", line)
		}
		if len(binary) < fixed2 {
			return
		}
		h, err := parse2(binary)
		if err == nil && !h.local && (!h.remote.IsValid() || !h.dest.IsValid() || h.remote.Addr().BitLen() != h.dest.Addr().BitLen()) {
			t.Errorf("%q: %+v", binary, h)
		}
	})
}
