package tcpproxy

import (
	"slices"

	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// addTLVs puts the configured TLVs into what an upstream PROXY protocol header will say of c.
func (c *config) addTLVs(conn *filter.Conn) {
	old, _ := conn.Info.State[stream.ProxyProtocolState].(*stream.ProxyProtocol)
	if old != nil && c.merge == tcpv3.ProxyProtocolTlvMergePolicy_ADD_IF_ABSENT {
		return
	}
	next := &stream.ProxyProtocol{Remote: conn.Info.Remote, Local: conn.Info.Local}
	if old != nil {
		*next = stream.ProxyProtocol{Remote: old.Remote, Local: old.Local, TLVs: slices.Clone(old.TLVs)}
	}
	own := c.evaluate(conn)
	if c.merge == tcpv3.ProxyProtocolTlvMergePolicy_OVERWRITE_BY_TYPE_IF_EXISTS_OR_ADD {
		next.TLVs = slices.DeleteFunc(next.TLVs, func(t stream.TLV) bool {
			return slices.ContainsFunc(own, func(o stream.TLV) bool { return o.Type == t.Type })
		})
	}
	next.TLVs = append(next.TLVs, own...)
	if conn.Info.State == nil {
		conn.Info.State = stream.FilterState{}
	}
	conn.Info.State[stream.ProxyProtocolState] = next
}

func (c *config) evaluate(conn *filter.Conn) []stream.TLV {
	var l []stream.TLV
	for _, t := range c.tlvs {
		v := t.value
		if t.format != nil {
			v = t.format.Append(nil, conn.Record())
		}
		l = append(l, stream.TLV{Type: t.kind, Value: v})
	}
	return l
}
