package format

import (
	"net/netip"
	"strconv"

	"github.com/outrigger-proxy/outrigger/internal/stream"
)

type addressOf func(s *stream.Stream) *stream.Address

// addressCommands are NAME_ADDRESS, NAME_ADDRESS_WITHOUT_PORT(MASK) and NAME_PORT for each address.
func addressCommands() map[string]command {
	all := map[string]command{}
	for name, of := range map[string]addressOf{
		"DOWNSTREAM_LOCAL_":         func(s *stream.Stream) *stream.Address { return &s.Info.Conn.Local },
		"DOWNSTREAM_REMOTE_":        func(s *stream.Stream) *stream.Address { return &s.Info.Conn.Remote },
		"DOWNSTREAM_DIRECT_LOCAL_":  func(s *stream.Stream) *stream.Address { return &s.Info.Conn.DirectLocal },
		"DOWNSTREAM_DIRECT_REMOTE_": func(s *stream.Stream) *stream.Address { return &s.Info.Conn.DirectRemote },
		"UPSTREAM_LOCAL_":           func(s *stream.Stream) *stream.Address { return &s.Info.Upstream.Local },
		"UPSTREAM_REMOTE_":          upstreamRemote,
	} {
		all[name+"ADDRESS"] = appending(func(b []byte, s *stream.Stream) ([]byte, bool) { return appendAddress(b, of(s)) })
		all[name+"ADDRESS_WITHOUT_PORT"] = command{paramOptional, func(c call) (*operator, error) { return withoutPort(c, of), nil }}
		all[name+"PORT"] = optional(func(s *stream.Stream) (int64, bool) {
			a := of(s)
			return int64(a.Port()), a.IsValid()
		})
	}
	empty := textAlways(func(*stream.Stream) string { return "" }) // only addresses of internal listeners have an endpoint id
	for _, name := range []string{"DOWNSTREAM_LOCAL", "DOWNSTREAM_DIRECT_LOCAL", "UPSTREAM_REMOTE"} {
		all[name+"_ADDRESS_ENDPOINT_ID"] = empty
	}
	return all
}

// upstreamRemote is where the upstream connection goes to; there is none before it is connected.
func upstreamRemote(s *stream.Stream) *stream.Address {
	u := &s.Info.Upstream
	if u.Remote.IsValid() || u.Remote.Path != "" || !u.Local.IsValid() && u.Local.Path == "" && u.Host.Path == "" {
		return &u.Remote
	}
	return &u.Host
}

func appendAddress(b []byte, a *stream.Address) ([]byte, bool) {
	switch {
	case a.Path != "":
		return append(b, a.Path...), true
	case a.IsValid():
		return a.AppendTo(b), true
	}
	return b, false
}

// withoutPort is NAME_ADDRESS_WITHOUT_PORT(MASK): the address alone, or its network in CIDR notation. A mask that is no number
// is none, and one that is too long is cut, as in Envoy.
func withoutPort(c call, of addressOf) *operator {
	bits, err := strconv.Atoi(c.param)
	masked := err == nil && bits >= 0
	return &operator{text: func(b []byte, s *stream.Stream) ([]byte, bool) {
		a := of(s)
		if !a.IsValid() {
			return append(b, a.Path...), a.Path != ""
		}
		if !masked {
			return a.Addr().AppendTo(b), true
		}
		p := netip.PrefixFrom(a.Addr().WithZone(""), min(bits, a.Addr().BitLen())).Masked()
		return p.AppendTo(b), true
	}}
}
