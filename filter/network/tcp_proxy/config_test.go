package tcpproxy

import (
	"fmt"
	"strings"
	"testing"

	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/protofile"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

func TestWeightedClusters(t *testing.T) {
	c := &config{targets: []target{{cluster: "a", weight: 1}, {cluster: "b", weight: 3}}, weights: 4}
	got := ""
	for draw := range uint64(8) {
		got += c.pick(draw).cluster
	}
	if got != "abbbabbb" {
		t.Errorf("got %s", got)
	}
}

func TestTLVs(t *testing.T) {
	for policy, want := range map[string]string{
		"ADD_IF_ABSENT":                      "1=old 2=old",
		"OVERWRITE_BY_TYPE_IF_EXISTS_OR_ADD": "2=old 1=new 3=new",
		"APPEND_IF_EXISTS_OR_ADD":            "1=old 2=old 1=new 3=new",
	} {
		p := &tcpv3.TcpProxy{}
		text := "stat_prefix: p\ncluster: c\nproxy_protocol_tlvs: [{type: 1, value: bmV3}, {type: 3, value: bmV3}]\nproxy_protocol_tlv_merge_policy: " + policy
		if _, err := protofile.Parse([]byte(text), protofile.YAML, p); err != nil {
			t.Fatal(err)
		}
		c, err := parse(p)
		if err != nil {
			t.Fatal(err)
		}
		old := &stream.ProxyProtocol{TLVs: []stream.TLV{{Type: 1, Value: []byte("old")}, {Type: 2, Value: []byte("old")}}}
		for _, state := range []stream.FilterState{{stream.ProxyProtocolState: old}, nil} {
			conn := &filter.Conn{Info: &stream.Conn{State: state}}
			c.addTLVs(conn)
			var got []string
			for _, v := range conn.Info.State[stream.ProxyProtocolState].(*stream.ProxyProtocol).TLVs {
				got = append(got, fmt.Sprintf("%d=%s", v.Type, v.Value))
			}
			if state == nil {
				want = "1=new 3=new"
			}
			if strings.Join(got, " ") != want {
				t.Errorf("%s: got %v, want %s", policy, got, want)
			}
		}
	}
}
