package stream

// ProxyProtocolState is the key of a *ProxyProtocol in the filter state of a connection, in Envoy's words.
const ProxyProtocolState = "envoy.network.proxy_protocol_options"

// TCPClusterState is the key of the name of the cluster (a string or a fmt.Stringer) that a TCP connection goes to, in Envoy's words.
const TCPClusterState = "envoy.tcp_proxy.cluster"

// ServerNameState is the key of the SNI (a string) for the host of a connection, in Envoy's words.
const ServerNameState = "envoy.network.upstream_server_name"

// ProxyProtocol is what an upstream PROXY protocol header is to say of a connection.
type ProxyProtocol struct {
	Remote, Local Address
	TLVs          []TLV
}

// TLV is an extension of a PROXY protocol v2 header (section 2.2 of its specification).
type TLV struct {
	Type  byte
	Value []byte
}
