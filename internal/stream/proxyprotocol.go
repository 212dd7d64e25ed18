package stream

// ProxyProtocolState is the key of a *ProxyProtocol in the filter state of a connection, in Envoy's words.
const ProxyProtocolState = "envoy.network.proxy_protocol_options"

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
