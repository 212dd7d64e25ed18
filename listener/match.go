package listener

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/match"
)

// chains is the compiled filter_chain_match of all chains: a tree with a level per criterion, in Envoy's order of precedence.
// A level that has an entry for the connection decides: there is no way back to a less specific one (as in Envoy).
// It costs a few map look-ups per connection, whatever the number of chains.
type chains struct {
	ports    map[uint16]*prefixes[names] // destination_port; those of chains without one are in any
	any      *prefixes[names]
	fallback *chain              // default_filter_chain; nil: none
	matcher  *match.Tree[*chain] // filter_chain_matcher, in the place of all that; nil: none
}

type (
	names struct { // server_names: the most specific one; wildcards are kept with their dot, ".example.com"
		by  map[string]*transports
		any *transports
	}
	transports struct { // transport_protocol
		by  map[string]*protocols
		any *protocols
	}
	protocols struct { // application_protocols: the first of the connection's that is there
		by  map[string]*prefixes[sources]
		any *prefixes[sources]
	}
	sources struct { // source_type: local or external, then any
		by [3]*prefixes[sourcePorts]
	}
	sourcePorts struct {
		by  map[uint16]*chain
		any *chain
	}
)

// errOverlap is Envoy's wording.
var errOverlap = errors.New("multiple filter chains with overlapping matching rules are defined")

// compileMatches makes the tree; list[i] is the chain of protos[i].
func compileMatches(protos []*listenerv3.FilterChain, list []*chain, fallback *chain) (*chains, error) {
	t := &chains{ports: map[uint16]*prefixes[names]{}, fallback: fallback}
	for i, p := range protos {
		for j, q := range protos[:i] {
			if proto.Equal(rulesOf(p), rulesOf(q)) {
				return nil, fmt.Errorf("filter_chains[%d]: filter chain '%s' has the same matching rules defined as '%s'. duplicate matcher is: %s",
					i, p.GetName(), protos[j].GetName(), oneLine(rulesOf(p)))
			}
		}
		r, err := parseMatch(p.GetFilterChainMatch())
		if err != nil {
			return nil, fmt.Errorf("filter_chains[%d].filter_chain_match.%w", i, err)
		}
		if !t.add(r, list[i]) {
			return nil, fmt.Errorf("filter_chains[%d]: %w", i, errOverlap)
		}
	}
	return t, nil
}

func rulesOf(p *listenerv3.FilterChain) *listenerv3.FilterChainMatch {
	if m := p.GetFilterChainMatch(); m != nil {
		return m
	}
	return &listenerv3.FilterChainMatch{}
}

func oneLine(m proto.Message) string {
	b, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		return ""
	}
	var out bytes.Buffer
	if json.Compact(&out, b) != nil {
		return ""
	}
	return out.String()
}

// rules is one filter_chain_match; in each list the zero value stands for "any".
type rules struct {
	port                           uint16
	destinations, directs, remotes []netip.Prefix
	names, applications            []string
	transport                      string
	sourceType                     int
	sourcePorts                    []uint16
}

func parseMatch(m *listenerv3.FilterChainMatch) (r rules, err error) {
	if m.GetAddressSuffix() != "" || m.GetSuffixLen() != nil {
		return r, errors.New("address_suffix, suffix_len: contains unimplemented fields")
	}
	r = rules{
		port:         uint16(m.GetDestinationPort().GetValue()),
		transport:    m.GetTransportProtocol(),
		applications: orAny(m.GetApplicationProtocols()),
		sourceType:   int(m.GetSourceType()),
	}
	for i, n := range m.GetServerNames() {
		if r.names = append(r.names, strings.ToLower(strings.TrimPrefix(n, "*"))); strings.Contains(n, "*") && !strings.HasPrefix(n, "*.") {
			return r, fmt.Errorf(`server_names[%d]: partial wildcards are not supported in "server_names"`, i)
		}
	}
	r.names = orAny(r.names)
	for _, p := range m.GetSourcePorts() {
		r.sourcePorts = append(r.sourcePorts, uint16(p))
	}
	r.sourcePorts = orAny(r.sourcePorts)
	if r.destinations, err = parseRanges("prefix_ranges", m.GetPrefixRanges()); err != nil {
		return r, err
	}
	if r.directs, err = parseRanges("direct_source_prefix_ranges", m.GetDirectSourcePrefixRanges()); err != nil {
		return r, err
	}
	r.remotes, err = parseRanges("source_prefix_ranges", m.GetSourcePrefixRanges())
	return r, err
}

func orAny[T any](l []T) []T {
	if len(l) == 0 {
		return make([]T, 1)
	}
	return l
}

// parseRanges reads CIDR ranges; a length that is too long means a whole address, as in Envoy.
func parseRanges(field string, ranges []*corev3.CidrRange) ([]netip.Prefix, error) {
	var l []netip.Prefix
	for i, r := range ranges {
		a, err := netip.ParseAddr(r.GetAddressPrefix())
		if err != nil {
			return nil, fmt.Errorf("%s[%d]: malformed IP address: %s", field, i, r.GetAddressPrefix())
		}
		n := min(int(r.GetPrefixLen().GetValue()), a.BitLen())
		l = append(l, netip.PrefixFrom(a.WithZone(""), n).Masked())
	}
	return orAny(l), nil
}

// add puts c at every leaf that r reaches; false: another chain is there.
func (t *chains) add(r rules, c *chain) bool {
	top := t.port(r.port)
	for _, d := range r.destinations {
		byName := top.at(d)
		for _, n := range r.names {
			byTransport := entry(&byName.by, &byName.any, n)
			byProtocol := entry(&byTransport.by, &byTransport.any, r.transport)
			for _, a := range r.applications {
				if !addSources(entry(&byProtocol.by, &byProtocol.any, a), r, c) {
					return false
				}
			}
		}
	}
	return true
}

func (t *chains) port(port uint16) *prefixes[names] {
	if port == 0 {
		if t.any == nil {
			t.any = &prefixes[names]{}
		}
		return t.any
	}
	if t.ports[port] == nil {
		t.ports[port] = &prefixes[names]{}
	}
	return t.ports[port]
}

func addSources(level *prefixes[sources], r rules, c *chain) bool {
	for _, direct := range r.directs {
		byType := &level.at(direct).by[r.sourceType]
		if *byType == nil {
			*byType = &prefixes[sourcePorts]{}
		}
		for _, remote := range r.remotes {
			ports := (*byType).at(remote)
			for _, p := range r.sourcePorts {
				if !ports.add(p, c) {
					return false
				}
			}
		}
	}
	return true
}

func (s *sourcePorts) add(port uint16, c *chain) bool {
	if port == 0 {
		if s.any != nil {
			return false
		}
		s.any = c
		return true
	}
	if s.by[port] != nil {
		return false
	}
	if s.by == nil {
		s.by = map[uint16]*chain{}
	}
	s.by[port] = c
	return true
}

// entry finds or makes the next level for key; the empty key is any.
func entry[T any](by *map[string]*T, anyOf **T, key string) *T {
	if key == "" {
		if *anyOf == nil {
			*anyOf = new(T)
		}
		return *anyOf
	}
	if *by == nil {
		*by = map[string]*T{}
	}
	if (*by)[key] == nil {
		(*by)[key] = new(T)
	}
	return (*by)[key]
}

// find returns the chain of a connection, nil if none matches and there is no default.
func (t *chains) find(a *filter.Accepted) *chain {
	if t.matcher != nil {
		return t.match(a)
	}
	level := t.any
	if a.Info.Local.IsValid() {
		if l := t.ports[a.Info.Local.Port()]; l != nil {
			level = l
		}
	}
	if c := level.find(a.Info.Local.Addr()).find(a); c != nil {
		return c
	}
	return t.fallback
}

func (n *names) find(a *filter.Accepted) *chain {
	if n == nil {
		return nil
	}
	if name := a.Info.ServerName; name != "" && n.by != nil {
		if t := n.by[name]; t != nil {
			return t.find(a)
		}
		for pos := nextDot(name, 1); pos > 0 && pos < len(name)-1; pos = nextDot(name, pos+1) {
			if t := n.by[name[pos:]]; t != nil {
				return t.find(a)
			}
		}
	}
	return n.any.find(a)
}

func nextDot(name string, from int) int {
	if from > len(name) {
		return -1
	}
	if i := strings.IndexByte(name[from:], '.'); i >= 0 {
		return from + i
	}
	return -1
}

func (t *transports) find(a *filter.Accepted) *chain {
	if t == nil {
		return nil
	}
	detected := a.TransportProtocol
	if detected == "" {
		detected = "raw_buffer"
	}
	if p := t.by[detected]; p != nil {
		return p.find(a)
	}
	return t.any.find(a)
}

func (p *protocols) find(a *filter.Accepted) *chain {
	if p == nil {
		return nil
	}
	direct := a.Info.DirectRemote.Addr()
	for _, name := range a.ApplicationProtocols {
		if s := p.by[name]; s != nil {
			return s.find(direct).find(a)
		}
	}
	return p.any.find(direct).find(a)
}

func (s *sources) find(a *filter.Accepted) *chain {
	if s == nil {
		return nil
	}
	const anyType, sameIP, external = 0, int(listenerv3.FilterChainMatch_SAME_IP_OR_LOOPBACK), int(listenerv3.FilterChainMatch_EXTERNAL)
	level := s.by[anyType]
	if s.by[sameIP] != nil || s.by[external] != nil {
		kind := external
		if sameIPOrLoopback(a) {
			kind = sameIP
		}
		if s.by[kind] != nil {
			level = s.by[kind]
		}
	}
	remote := a.Info.Remote
	p := level.find(remote.Addr())
	if p == nil {
		return nil
	}
	if c := p.by[remote.Port()]; c != nil {
		return c
	}
	return p.any
}

func sameIPOrLoopback(a *filter.Accepted) bool {
	remote := a.Info.Remote
	if !remote.IsValid() { // a unix socket
		return true
	}
	ip := remote.Addr().Unmap()
	return ip.IsLoopback() || a.Info.Local.IsValid() && ip == a.Info.Local.Addr().Unmap()
}

// prefixes finds the longest prefix that has an address: a map look-up for each length that is in use.
type prefixes[T any] struct {
	any     *T // no range was asked for
	by      map[netip.Prefix]*T
	lengths [2][]int // in use, longest first: IPv4, IPv6
}

// at finds or makes the entry of a range; the zero Prefix is any.
func (p *prefixes[T]) at(r netip.Prefix) *T {
	if !r.IsValid() {
		if p.any == nil {
			p.any = new(T)
		}
		return p.any
	}
	if p.by == nil {
		p.by = map[netip.Prefix]*T{}
	}
	if p.by[r] == nil {
		p.by[r] = new(T)
		l := &p.lengths[family(r.Addr())]
		if !slices.Contains(*l, r.Bits()) {
			*l = append(*l, r.Bits())
			slices.SortFunc(*l, func(a, b int) int { return b - a })
		}
	}
	return p.by[r]
}

func family(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}

// notIP stands for the address of a unix socket, as in Envoy.
var notIP = netip.AddrFrom4([4]byte{255, 255, 255, 255})

func (p *prefixes[T]) find(a netip.Addr) *T {
	if p == nil {
		return nil
	}
	if p.by != nil {
		a = a.Unmap()
		if !a.IsValid() {
			a = notIP
		}
		for _, n := range p.lengths[family(a)] {
			if r, err := a.Prefix(n); err == nil {
				if v := p.by[r]; v != nil {
					return v
				}
			}
		}
	}
	return p.any
}
