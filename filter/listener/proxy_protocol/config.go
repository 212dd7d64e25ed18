package proxyprotocol

import (
	"errors"
	"fmt"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	proxyprotocolv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/proxy_protocol/v3"

	"github.com/outrigger-proxy/outrigger/internal/stream"
)

const namespace = "envoy.filters.listener.proxy_protocol"

type config struct {
	optional      bool // allow_requests_without_proxy_protocol
	noV1, noV2    bool // disallowed_versions
	statPrefix    string
	rules         map[byte]rule
	toFilterState bool       // tlv_location
	pass          *[256]bool // pass_through_tlvs: by type; nil: none
}

// rule says where the value of a TLV goes.
type rule struct {
	namespace, key string
	base64         bool
}

func parse(p *proxyprotocolv3.ProxyProtocol) (*config, error) {
	c := &config{
		optional: p.GetAllowRequestsWithoutProxyProtocol(), statPrefix: p.GetStatPrefix(), rules: map[byte]rule{},
		toFilterState: p.GetTlvLocation() == proxyprotocolv3.ProxyProtocol_FILTER_STATE,
	}
	for _, v := range p.GetDisallowedVersions() {
		c.noV1 = c.noV1 || v == corev3.ProxyProtocolConfig_V1
		c.noV2 = c.noV2 || v == corev3.ProxyProtocolConfig_V2
	}
	if c.noV1 && c.noV2 {
		return nil, errors.New("disallowed_versions: all proxy protocol versions are disallowed")
	}
	for i, r := range p.GetRules() {
		if r.GetTlvType() > 255 {
			return nil, fmt.Errorf("rules[%d].tlv_type: %d is more than 255", i, r.GetTlvType())
		}
		v := r.GetOnTlvPresent()
		if v == nil {
			continue // Envoy: a rule without it does nothing
		}
		ns := v.GetMetadataNamespace()
		if ns == "" {
			ns = namespace
		}
		c.rules[byte(r.GetTlvType())] = rule{ns, v.GetKey(), v.GetValueStringEncoding() == proxyprotocolv3.ProxyProtocol_KeyValuePair_BASE64}
	}
	c.parsePass(p.GetPassThroughTlvs())
	return c, nil
}

func (c *config) parsePass(p *corev3.ProxyProtocolPassThroughTLVs) {
	if p == nil {
		return
	}
	c.pass = &[256]bool{}
	if p.GetMatchType() == corev3.ProxyProtocolPassThroughTLVs_INCLUDE_ALL {
		for i := range c.pass {
			c.pass[i] = true
		}
	}
	for _, t := range p.GetTlvType() {
		c.pass[byte(t)] = true
	}
}

// passed copies the TLVs that go on to the upstream header.
func (c *config) passed(tlvs []stream.TLV) []stream.TLV {
	var out []stream.TLV
	for _, t := range tlvs {
		if c.pass[t.Type] {
			out = append(out, stream.TLV{Type: t.Type, Value: append([]byte(nil), t.Value...)})
		}
	}
	return out
}
