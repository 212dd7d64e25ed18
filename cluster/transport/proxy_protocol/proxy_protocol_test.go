package proxyprotocol

import (
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	ppv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/proxy_protocol/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/outrigger-proxy/outrigger/cluster"
	"github.com/outrigger-proxy/outrigger/cluster/pool"
	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/fiber/fibertest"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// plain is an inner socket.
type plain struct{ closed bool }

func (*plain) Client(_ *fiber.Worker, c fiber.Conn, _ *pool.Info) (fiber.Conn, error) { return c, nil }

func (p *plain) Close() { p.closed = true }

func address(t *testing.T, s string) stream.Address {
	t.Helper()
	a, err := fiber.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestHeaders(t *testing.T) {
	added := []*corev3.TlvEntry{{Type: 0xe1, Value: []byte("own")}}
	all := &corev3.ProxyProtocolPassThroughTLVs{}
	some := &corev3.ProxyProtocolPassThroughTLVs{MatchType: corev3.ProxyProtocolPassThroughTLVs_INCLUDE, TlvType: []uint32{2}}
	client := &stream.Conn{Remote: address(t, "1.2.3.4:5"), Local: address(t, "6.7.8.9:10")}
	six := &stream.Conn{Remote: address(t, "[::1]:5"), Local: address(t, "6.7.8.9:10")}
	told := &stream.Conn{Remote: client.Remote, Local: client.Local, State: stream.FilterState{stream.ProxyProtocolState: &stream.ProxyProtocol{
		Remote: address(t, "9.9.9.9:9"), Local: address(t, "8.8.8.8:8"), TLVs: []stream.TLV{{Type: 2, Value: []byte("a")}, {Type: 0xe1, Value: []byte("b")}, {Type: 3, Value: []byte("c")}},
	}}}
	const four, v6 = "\x21\x11", "\x21\x21"
	for _, c := range []struct {
		name   string
		config *corev3.ProxyProtocolConfig
		client *stream.Conn
		host   []*corev3.TlvEntry // in the metadata of the host
		want   string
	}{
		{"1", &corev3.ProxyProtocolConfig{}, client, nil, "PROXY TCP4 1.2.3.4 6.7.8.9 5 10\r\n"},
		{"1, mixed", &corev3.ProxyProtocolConfig{}, six, nil, "PROXY TCP6 ::1 ::ffff:6.7.8.9 5 10\r\n"},
		{"1, own account", &corev3.ProxyProtocolConfig{}, nil, nil, "PROXY TCP4 127.0.0.1 127.0.0.2 1 2\r\n"},
		{"1, told", &corev3.ProxyProtocolConfig{}, told, nil, "PROXY TCP4 9.9.9.9 8.8.8.8 9 8\r\n"},
		{"2", &corev3.ProxyProtocolConfig{Version: corev3.ProxyProtocolConfig_V2}, client, nil, signature + four + "\x00\x0c\x01\x02\x03\x04\x06\x07\x08\x09\x00\x05\x00\x0a"},
		{"2, own account", &corev3.ProxyProtocolConfig{Version: corev3.ProxyProtocolConfig_V2}, nil, nil, signature + "\x20\x00\x00\x00"},
		{
			"2, mixed", &corev3.ProxyProtocolConfig{Version: corev3.ProxyProtocolConfig_V2}, six, nil,
			signature + v6 + "\x00\x24" + strings.Repeat("\x00", 15) + "\x01" + strings.Repeat("\x00", 10) + "\xff\xff\x06\x07\x08\x09" + "\x00\x05\x00\x0a",
		},
		{
			"2, TLVs", &corev3.ProxyProtocolConfig{Version: corev3.ProxyProtocolConfig_V2, PassThroughTlvs: all, AddedTlvs: added}, told, nil,
			signature + four + "\x00\x1a\x09\x09\x09\x09\x08\x08\x08\x08\x00\x09\x00\x08" + "\xe1\x00\x03own" + "\x02\x00\x01a" + "\x03\x00\x01c",
		},
		{
			"2, some TLVs", &corev3.ProxyProtocolConfig{Version: corev3.ProxyProtocolConfig_V2, PassThroughTlvs: some}, told, nil,
			signature + four + "\x00\x10\x09\x09\x09\x09\x08\x08\x08\x08\x00\x09\x00\x08" + "\x02\x00\x01a",
		},
		{
			"2, TLVs of the host", &corev3.ProxyProtocolConfig{Version: corev3.ProxyProtocolConfig_V2, PassThroughTlvs: all, AddedTlvs: added}, told,
			[]*corev3.TlvEntry{{Type: 3, Value: []byte("h")}, {Type: 0xe1, Value: []byte("i")}},
			signature + four + "\x00\x18\x09\x09\x09\x09\x08\x08\x08\x08\x00\x09\x00\x08" + "\x03\x00\x01h" + "\xe1\x00\x01i" + "\x02\x00\x01a",
		},
		{"1, TLVs of the host", &corev3.ProxyProtocolConfig{}, client, added, "PROXY TCP4 1.2.3.4 6.7.8.9 5 10\r\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			fibertest.Each(t, func(t *testing.T, w *fiber.Worker) {
				inner := &plain{}
				s, err := New(&ppv3.ProxyProtocolUpstreamTransport{Config: c.config}, cluster.TransportEnv{Inner: func(*corev3.TransportSocket) (cluster.TransportSocket, error) { return inner, nil }})
				if err != nil {
					t.Fatal(err)
				}
				i := &pool.Info{Local: address(t, "127.0.0.1:1"), Remote: address(t, "127.0.0.2:2")}
				if c.client != nil {
					i.Transport = s.(cluster.HeaderSocket).Header(pool.Transport{}, c.client)
				}
				if c.host != nil {
					typed, err := anypb.New(&corev3.PerHostConfig{AddedTlvs: c.host})
					if err != nil {
						t.Fatal(err)
					}
					s = s.(cluster.HostSocket).ForHost(map[string]*anypb.Any{hostKey: typed})
				}
				a, b := fiber.Pipe(w)
				if _, err := s.Client(w, a, i); err != nil {
					t.Fatal(err)
				}
				got, err := b.Peek(len(c.want))
				if err != nil || string(got) != c.want {
					t.Errorf("got  %q, %v\nwant %q", got, err, c.want)
				}
				_, _ = a.Close(), b.Close()
				s.(interface{ Close() }).Close()
				if !inner.closed {
					t.Error("the inner socket is not closed")
				}
			})
		})
	}
}

func TestRefused(t *testing.T) {
	for want, p := range map[string]*ppv3.ProxyProtocolUpstreamTransport{
		"allow_unspecified_address: ":          {AllowUnspecifiedAddress: true},
		"config.added_tlvs[0].type: 256":       {Config: &corev3.ProxyProtocolConfig{AddedTlvs: []*corev3.TlvEntry{{Type: 256, Value: []byte("x")}}}},
		"config.added_tlvs[0].value: ":         {Config: &corev3.ProxyProtocolConfig{AddedTlvs: []*corev3.TlvEntry{{Type: 1}}}},
		"config.added_tlvs[0].format_string: ": {Config: &corev3.ProxyProtocolConfig{AddedTlvs: []*corev3.TlvEntry{{Type: 1, FormatString: &corev3.SubstitutionFormatString{}}}}},
	} {
		if _, err := parse(p); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
