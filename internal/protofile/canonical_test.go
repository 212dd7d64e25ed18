package protofile_test

import (
	"bytes"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/outrigger-proxy/outrigger/internal/protofile"
)

const tcp = "'@type': type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"

// TestCleanMeansThatCheckIsSilent: what Canonical calls clean, Check accepts without a word, and the other way round.
func TestCleanMeansThatCheckIsSilent(t *testing.T) {
	for text, clean := range map[string]bool{
		"name: a": true,
		"{name: a, filter_chains: [{filters: [{name: f, typed_config: {" + tcp + ", stat_prefix: x, cluster: c}}]}]}":                                                                                     true,
		"{name: a, filter_chains: [{filters: [{name: f, typed_config: {" + tcp + ", cluster: c}}]}]}":                                                                                                     false, // stat_prefix is required
		"{name: a, filter_chains: [{filters: [{name: f, typed_config: {" + tcp + ", stat_prefix: x, cluster: c, max_connect_attempts: 0}}]}]}":                                                            false,
		"{name: a, listener_filters_timeout: 1s, filter_chains: [{transport_socket_connect_timeout: 1s}]}":                                                                                                true,
		"{name: a, filter_chains: [{filters: [{name: f, typed_config: {'@type': type.googleapis.com/xds.type.v3.TypedStruct, type_url: nobody.Knows}}]}]}":                                                false,
		"{name: a, filter_chains: [{filters: [{name: f, typed_config: {'@type': type.googleapis.com/xds.type.v3.TypedStruct, type_url: " + tcpURL + ", value: {stat_prefix: x, cluster: c}}}]}]}":         true,
		"{name: a, filter_chains: [{filters: [{name: f, typed_config: {'@type': type.googleapis.com/xds.type.v3.TypedStruct, type_url: " + tcpURL + ", value: {stat_prefix: x, cluster: c, zzz: 1}}}]}]}": false,
		"{name: a, filter_chains: [{filters: [{name: f, typed_config: {'@type': type.googleapis.com/xds.type.v3.TypedStruct, type_url: " + tcpURL + ", value: {cluster: c}}}]}]}":                         false,
	} {
		p := &listenerv3.Listener{}
		if _, err := protofile.Parse([]byte(text), protofile.YAML, p); err != nil {
			t.Fatal(err)
		}
		found, err := protofile.Check(p)
		if _, got := protofile.Canonical(p); got != clean || got != (err == nil && len(found.Unknown) == 0) {
			t.Errorf("%s: clean: %v; Check finds %v, %v", text, got, found.Unknown, err)
		}
	}
}

const tcpURL = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"

func TestUnknownFieldsAndTypesAreNotClean(t *testing.T) {
	strange := &clusterv3.Cluster{Name: "a"}
	strange.ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 9999, protowire.VarintType), 1))
	foreign := &clusterv3.Cluster{Name: "a", TypedExtensionProtocolOptions: map[string]*anypb.Any{"x": {TypeUrl: "type.googleapis.com/nobody.Knows"}}}
	for _, p := range []proto.Message{strange, foreign} {
		if _, clean := protofile.Canonical(p); clean {
			t.Errorf("%v is clean", p)
		}
	}
}

// TestTheSameMeaning: the bytes do not depend on how a packed message was marshalled.
func TestTheSameMeaning(t *testing.T) {
	pack := func(fields ...protowire.Number) *listenerv3.Listener {
		var b []byte
		for _, n := range fields {
			b = protowire.AppendString(protowire.AppendTag(b, n, protowire.BytesType), "x")
		}
		return &listenerv3.Listener{Name: "l", FilterChains: []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{{Name: "f", ConfigType: &listenerv3.Filter_TypedConfig{
			TypedConfig: &anypb.Any{TypeUrl: "type.googleapis.com/" + tcpURL, Value: b},
		}}}}}}
	}
	one, _ := protofile.Canonical(pack(1, 2))
	two, _ := protofile.Canonical(pack(2, 1))
	other, _ := protofile.Canonical(pack(1))
	if !bytes.Equal(one, two) || bytes.Equal(one, other) {
		t.Error("the order of fields makes a difference, or nothing does")
	}
}
