package listener

import (
	"net/netip"
	"strings"
	"testing"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/protofile"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// read makes a listener of YAML.
func read(t testing.TB, text string) *listenerv3.Listener {
	t.Helper()
	p := &listenerv3.Listener{}
	unknown, err := protofile.Parse([]byte(text), protofile.YAML, p)
	if err != nil || len(unknown) > 0 {
		t.Fatalf("%v %v\n%s", err, unknown, text)
	}
	return p
}

// tree compiles filter chains that are named and matched by text: a YAML list of FilterChain.
func tree(t testing.TB, text string) (*chains, error) {
	t.Helper()
	p := read(t, text)
	var list []*chain
	for _, f := range p.GetFilterChains() {
		list = append(list, &chain{name: f.GetName()})
	}
	var fallback *chain
	if f := p.GetDefaultFilterChain(); f != nil {
		fallback = &chain{name: f.GetName()}
	}
	return compileMatches(p.GetFilterChains(), list, fallback)
}

// seen is a connection as filter chains see it.
type seen struct {
	local, remote, direct string
	sni, transport        string
	alpn                  []string
}

func (s seen) accepted() *filter.Accepted {
	parse := func(s, absent string) stream.Address {
		if s == "unix" {
			return stream.Address{}
		}
		if s == "" {
			s = absent
		}
		return stream.Address{AddrPort: netip.MustParseAddrPort(s)}
	}
	remote := parse(s.remote, "192.0.2.9:4000")
	direct := remote
	if s.direct != "" {
		direct = parse(s.direct, "")
	}
	return &filter.Accepted{
		Info:              &stream.Conn{Local: parse(s.local, "10.0.0.1:80"), Remote: remote, DirectRemote: direct, ServerName: s.sni},
		TransportProtocol: s.transport, ApplicationProtocols: s.alpn,
	}
}

func TestFilterChainMatch(t *testing.T) {
	for _, c := range []struct {
		name, chains string
		want         map[string]seen // a key may carry a number to be unique: "a#2"
	}{
		{"no rules", "filter_chains: [{name: a}]", map[string]seen{"a": {}, "a#2": {local: "unix", remote: "unix"}}},
		{"nothing matches", "filter_chains: [{name: a, filter_chain_match: {destination_port: 81}}]", map[string]seen{"-": {}}},
		{
			"default", "{filter_chains: [{name: a, filter_chain_match: {destination_port: 81}}], default_filter_chain: {name: d}}",
			map[string]seen{"d": {}, "a": {local: "10.0.0.1:81"}, "d#2": {local: "unix", remote: "unix"}},
		},
		{
			"a port decides, even if nothing below it matches",
			`{filter_chains: [{name: port, filter_chain_match: {destination_port: 80, server_names: [x]}}, {name: any}], default_filter_chain: {name: d}}`,
			map[string]seen{"port": {sni: "x"}, "d": {sni: "y"}, "any": {local: "10.0.0.1:81"}},
		},
		{
			"the longest prefix of the destination decides",
			`filter_chains:
- {name: net, filter_chain_match: {prefix_ranges: [{address_prefix: 10.0.0.0, prefix_len: 8}]}}
- {name: sub, filter_chain_match: {prefix_ranges: [{address_prefix: 10.1.2.3, prefix_len: 16}], server_names: [x]}}
- {name: six, filter_chain_match: {prefix_ranges: [{address_prefix: "2001:db8::", prefix_len: 32}]}}
- {name: any}`,
			map[string]seen{"net": {}, "-": {local: "10.1.0.1:80"}, "sub": {local: "10.1.0.1:80", sni: "x"}, "six": {local: "[2001:db8::1]:80"}, "any": {local: "[2001:db9::1]:80"}, "any#2": {local: "11.0.0.1:80"}},
		},
		{
			"no length is a length of 0, too long is a whole address",
			`filter_chains:
- {name: zero, filter_chain_match: {prefix_ranges: [{address_prefix: 10.0.0.0}]}}
- {name: whole, filter_chain_match: {prefix_ranges: [{address_prefix: 10.0.0.1, prefix_len: 99}]}}`,
			map[string]seen{"whole": {}, "zero": {local: "1.2.3.4:80"}, "-": {local: "[::1]:80"}},
		},
		{
			"server names: exact, the longest wildcard, none",
			`filter_chains:
- {name: exact, filter_chain_match: {server_names: [WWW.example.com]}}
- {name: long, filter_chain_match: {server_names: ["*.b.example.com"]}}
- {name: short, filter_chain_match: {server_names: ["*.example.com", "*.org"]}}
- {name: any}`,
			map[string]seen{
				"exact": {sni: "www.example.com"}, "long": {sni: "a.b.example.com"}, "long#2": {sni: "x.a.b.example.com"}, "short": {sni: "b.example.com"},
				"short#2": {sni: "a.org"}, "any": {sni: "example.com"}, "any#2": {}, "any#3": {sni: "org"}, "any#4": {sni: "a.org."},
			},
		},
		{
			"transport protocol: what nobody has detected is raw_buffer",
			`filter_chains:
- {name: tls, filter_chain_match: {transport_protocol: tls}}
- {name: raw, filter_chain_match: {transport_protocol: raw_buffer}}
- {name: any}`,
			map[string]seen{"tls": {transport: "tls"}, "raw": {}, "raw#2": {transport: "raw_buffer"}, "any": {transport: "quic"}},
		},
		{
			"application protocols: the first that the client named and a chain has",
			`filter_chains:
- {name: h2, filter_chain_match: {application_protocols: [h2]}}
- {name: h1, filter_chain_match: {application_protocols: [http/1.1, http/1.0]}}
- {name: any}`,
			map[string]seen{"h2": {alpn: []string{"x", "h2", "http/1.1"}}, "h1": {alpn: []string{"http/1.0", "h2"}}, "any": {alpn: []string{"x"}}, "any#2": {}},
		},
		{
			"the direct source is the peer of the socket, the source the restored one",
			`filter_chains:
- {name: direct, filter_chain_match: {direct_source_prefix_ranges: [{address_prefix: 192.0.2.0, prefix_len: 24}], source_prefix_ranges: [{address_prefix: 1.0.0.0, prefix_len: 8}]}}
- {name: any}`,
			map[string]seen{"direct": {remote: "1.2.3.4:1", direct: "192.0.2.1:1"}, "-": {}, "any": {remote: "192.0.2.1:1", direct: "1.2.3.4:1"}},
		},
		{
			"source types",
			`filter_chains:
- {name: local, filter_chain_match: {source_type: SAME_IP_OR_LOOPBACK}}
- {name: external, filter_chain_match: {source_type: EXTERNAL}}
- {name: any}`,
			map[string]seen{"local": {remote: "127.9.9.9:1"}, "local#2": {remote: "10.0.0.1:1"}, "local#3": {remote: "[::1]:1"}, "local#4": {local: "unix", remote: "unix"}, "external": {}},
		},
		{
			"a source type without its peer falls to any",
			`filter_chains: [{name: local, filter_chain_match: {source_type: SAME_IP_OR_LOOPBACK}}, {name: any}]`,
			map[string]seen{"local": {remote: "127.0.0.1:1"}, "any": {}},
		},
		{
			"source ports, below the source's prefix",
			`filter_chains:
- {name: port, filter_chain_match: {source_ports: [4000, 4001]}}
- {name: net, filter_chain_match: {source_prefix_ranges: [{address_prefix: 192.0.2.0, prefix_len: 24}], source_ports: [1]}}
- {name: any}`,
			map[string]seen{"net": {remote: "192.0.2.1:1"}, "-": {remote: "192.0.2.1:4000"}, "port": {remote: "1.1.1.1:4001"}, "any": {remote: "1.1.1.1:1"}},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr, err := tree(t, c.chains)
			if err != nil {
				t.Fatal(err)
			}
			for want, s := range c.want {
				want, _, _ = strings.Cut(want, "#")
				got := "-"
				if ch := tr.find(s.accepted()); ch != nil {
					got = ch.name
				}
				if got != want {
					t.Errorf("%+v: got %s, want %s", s, got, want)
				}
			}
		})
	}
}

func TestFilterChainMatchRefusals(t *testing.T) {
	for _, c := range []struct{ chains, want string }{
		{
			"[{name: a, filter_chain_match: {destination_port: 1}}, {name: b, filter_chain_match: {destination_port: 1}}]",
			`filter_chains[1]: filter chain 'b' has the same matching rules defined as 'a'. duplicate matcher is: {"destination_port":1}`,
		},
		{"[{name: a}, {name: b, filter_chain_match: {}}]", `filter_chains[1]: filter chain 'b' has the same matching rules defined as 'a'. duplicate matcher is: {}`},
		{
			"[{filter_chain_match: {server_names: [a, b]}}, {filter_chain_match: {server_names: [B, c]}}]",
			"filter_chains[1]: multiple filter chains with overlapping matching rules are defined",
		},
		{
			"[{filter_chain_match: {source_ports: [1, 2]}}, {filter_chain_match: {source_ports: [2]}}]",
			"filter_chains[1]: multiple filter chains with overlapping matching rules are defined",
		},
		{"[{filter_chain_match: {server_names: [a*.com]}}]", `filter_chains[0].filter_chain_match.server_names[0]: partial wildcards are not supported in "server_names"`},
		{"[{filter_chain_match: {server_names: ['*']}}]", `filter_chains[0].filter_chain_match.server_names[0]: partial wildcards are not supported in "server_names"`},
		{"[{filter_chain_match: {address_suffix: x}}]", "filter_chains[0].filter_chain_match.address_suffix, suffix_len: contains unimplemented fields"},
		{"[{filter_chain_match: {source_prefix_ranges: [{address_prefix: foo}]}}]", "filter_chains[0].filter_chain_match.source_prefix_ranges[0]: malformed IP address: foo"},
	} {
		if _, err := tree(t, "filter_chains: "+c.chains); err == nil || err.Error() != c.want {
			t.Errorf("%s\n got %v\nwant %s", c.chains, err, c.want)
		}
	}
}

func TestFindAllocatesNothing(t *testing.T) {
	tr, err := tree(t, `filter_chains: [{name: a, filter_chain_match: {prefix_ranges: [{address_prefix: 10.0.0.0, prefix_len: 8}], server_names: ["*.com"], application_protocols: [h2]}}]`)
	if err != nil {
		t.Fatal(err)
	}
	a := seen{sni: "a.b.com", alpn: []string{"h2"}}.accepted()
	if n := testing.AllocsPerRun(100, func() {
		if tr.find(a) == nil {
			t.Error("no match")
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestPredicates(t *testing.T) {
	at := func(port string) *filter.Accepted { return seen{local: "10.0.0.1:" + port}.accepted() }
	for _, c := range []struct {
		rule    string
		yes, no string // ports
	}{
		{"{any_match: true}", "1", ""},
		{"{destination_port_range: {start: 80, end: 82}}", "81", "82"},
		{"{not_match: {destination_port_range: {start: 80, end: 81}}}", "81", "80"},
		{"{or_match: {rules: [{destination_port_range: {start: 1, end: 2}}, {destination_port_range: {start: 5, end: 6}}]}}", "5", "4"},
		{"{and_match: {rules: [{destination_port_range: {start: 1, end: 9}}, {not_match: {destination_port_range: {start: 5, end: 6}}}]}}", "4", "5"},
	} {
		p := read(t, "listener_filters: [{name: x, filter_disabled: "+c.rule+"}]")
		f, err := parsePredicate(p.GetListenerFilters()[0].GetFilterDisabled())
		if err != nil {
			t.Fatal(err)
		}
		if !f(at(c.yes)) {
			t.Errorf("%s does not match %s", c.rule, c.yes)
		}
		if c.no != "" && f(at(c.no)) {
			t.Errorf("%s matches %s", c.rule, c.no)
		}
	}
	if _, err := parsePredicate(&listenerv3.ListenerFilterChainMatchPredicate{}); err == nil {
		t.Error("a rule is required")
	}
}
