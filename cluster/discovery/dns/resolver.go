package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/outrigger-proxy/outrigger/internal/stats"
)

// Family says which addresses are wanted (envoy.config.cluster.v3.Cluster.DnsLookupFamily).
type Family uint8

// The families.
const (
	Auto        Family = iota // IPv6; if there are none IPv4
	V4Only                    // IPv4
	V6Only                    // IPv6
	V4Preferred               // IPv4; if there are none IPv6
	All                       // both
)

// Answer is what a name stands for. No addresses and no error: the name does not exist, or has none of the family.
type Answer struct {
	Addrs []netip.Addr
	TTL   time.Duration // the least of the records; 0: not known
	// Unknown says that the name does not exist; else it has no address of the family.
	Unknown bool
}

// RefusalError is why there is no answer, in words of c-ares.
type RefusalError string

func (f RefusalError) Error() string { return string(f) }

// failures are the words for what servers say.
var failures = map[int]RefusalError{
	dns.RcodeFormatError: "DNS server claims query was misformatted", dns.RcodeServerFailure: "DNS server returned general failure",
	dns.RcodeNotImplemented: "DNS server does not implement requested operation", dns.RcodeRefused: "DNS server refused query",
}

const misformatted RefusalError = "Misformatted domain name"

// Details says why an answer has no address, as details of responses do: without spaces.
func Details(a Answer, err error) string {
	var timeout net.Error
	var said RefusalError
	text := "cares_failure:Could not contact DNS servers"
	switch {
	case err == nil && a.Unknown:
		text = "cares_norecords:Domain name not found"
	case err == nil:
		text = "cares_norecords:DNS server returned answer with no data"
	case errors.As(err, &said) && said != "":
		text = "cares_failure:" + string(said)
	case errors.As(err, &timeout) && timeout.Timeout():
		text = "cares_failure:Timeout while contacting DNS servers"
	}
	return strings.ReplaceAll(text, " ", "_")
}

// Resolver answers questions; it may block. Many goroutines may use it.
type Resolver interface {
	Lookup(ctx context.Context, name string, f Family) (Answer, error)
}

// Stats are dns.cares.*: each question to a resolver is one resolution, whatever it finds.
type Stats struct {
	AddressFailures stats.Counter `stat:"get_addr_failure"`
	NotFound        stats.Counter `stat:"not_found"`
	Pending         stats.Gauge   `stat:"pending_resolutions"`
	Reinits         stats.Counter `stat:"reinits"` // of c-ares; there is nothing to initialize here
	Total           stats.Counter `stat:"resolve_total"`
	Timeouts        stats.Counter `stat:"timeouts"`
}

// count takes a question in, and its answer when it has come. A nil Stats counts nothing.
func (s *Stats) count(lookup func() (Answer, error)) (Answer, error) {
	if s == nil {
		return lookup()
	}
	s.Total.Inc()
	s.Pending.Inc()
	a, err := lookup()
	s.Pending.Dec()
	var failed net.Error
	switch {
	case errors.As(err, &failed) && failed.Timeout():
		s.Timeouts.Inc()
	case err != nil:
		s.AddressFailures.Inc()
	case len(a.Addrs) == 0:
		s.NotFound.Inc()
	}
	return a, err
}

// ask puts the questions that a family needs to lookup, which answers for IPv4 or IPv6 alone.
func ask(f Family, s *Stats, question func(v6 bool) (Answer, error)) (Answer, error) {
	lookup := func(v6 bool) (Answer, error) { return s.count(func() (Answer, error) { return question(v6) }) }
	switch f {
	case V4Only:
		return lookup(false)
	case V6Only:
		return lookup(true)
	case All:
		return s.count(func() (Answer, error) {
			a, err4 := question(false)
			b, err6 := question(true)
			if err4 != nil && err6 != nil {
				return Answer{}, err4
			}
			a.Addrs = append(a.Addrs, b.Addrs...)
			a.TTL = least(a.TTL, b.TTL)
			return a, nil
		})
	}
	first := f == Auto
	a, err := lookup(first)
	if err == nil && len(a.Addrs) > 0 {
		return a, nil
	}
	b, err2 := lookup(!first)
	if err2 != nil && err == nil {
		return a, nil
	}
	return b, err2
}

func least(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// Client is a stub resolver of its own: it reads the hosts file, and asks servers by UDP, or TCP where an answer does not fit. It
// stands in for Envoy's c-ares, and unlike the system's resolver it knows how long an answer holds.
type Client struct {
	// set at construction
	Servers    []string // host:port; empty: those of resolv.conf
	TCP        bool     // use_tcp_for_dns_lookups
	NoSearch   bool     // no_default_search_domain
	Fallback   bool     // Servers only if resolv.conf names none
	Rotate     bool     // rotate_nameservers
	Timeout    time.Duration
	Tries      int
	UDPSize    uint16 // edns0_max_payload_size; 0: none offered
	HostsFile  string // empty: /etc/hosts
	ResolvConf string // empty: /etc/resolv.conf
	Stats      *Stats // nil: nothing is counted
}

// Lookup finds the addresses of name.
func (c *Client) Lookup(ctx context.Context, name string, f Family) (Answer, error) {
	known := c.hosts(name)
	if ip, err := netip.ParseAddr(name); err == nil {
		known = []netip.Addr{ip}
	}
	if len(known) > 0 {
		return ask(f, c.Stats, func(v6 bool) (Answer, error) { return Answer{Addrs: only(known, v6)}, nil })
	}
	conf, err := c.config()
	if err != nil {
		return Answer{}, err
	}
	return ask(f, c.Stats, func(v6 bool) (Answer, error) {
		if strings.IndexFunc(name, strange) >= 0 {
			return Answer{}, misformatted
		}
		return c.search(ctx, conf, name, v6)
	})
}

// strange says which runes have no place in the name of a host.
func strange(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-._/*", r)
}

func only(l []netip.Addr, v6 bool) (kept []netip.Addr) {
	for _, a := range l {
		if a.Is6() == v6 {
			kept = append(kept, a)
		}
	}
	return kept
}

// hosts reads the hosts file. localhost is the loopback of either family whatever the file says (RFC 6761).
func (c *Client) hosts(name string) (found []netip.Addr) {
	if lower := strings.ToLower(name); lower == "localhost" || strings.HasSuffix(lower, ".localhost") {
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	}
	path := c.HostsFile
	if path == "" {
		path = "/etc/hosts"
	}
	text, _ := os.ReadFile(path)
	for line := range strings.SplitSeq(string(text), "\n") {
		line, _, _ = strings.Cut(line, "#")
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		for _, n := range fields[1:] {
			if a, err := netip.ParseAddr(fields[0]); err == nil && strings.EqualFold(n, name) {
				found = append(found, a)
			}
		}
	}
	return found
}

func (c *Client) config() (*dns.ClientConfig, error) {
	path := c.ResolvConf
	if path == "" {
		path = "/etc/resolv.conf"
	}
	conf, err := dns.ClientConfigFromFile(path)
	if err != nil {
		conf = &dns.ClientConfig{Ndots: 1}
	}
	var servers []string
	for _, s := range conf.Servers {
		servers = append(servers, net.JoinHostPort(s, "53"))
	}
	if len(c.Servers) > 0 && (!c.Fallback || len(servers) == 0) {
		servers = c.Servers
	}
	if len(servers) == 0 {
		return nil, errors.New("no DNS server is known")
	}
	conf.Servers = servers
	if c.NoSearch {
		conf.Search = nil
	}
	return conf, nil
}

// search asks for name below each search domain, in the order that ndots says, until one has an answer.
func (c *Client) search(ctx context.Context, conf *dns.ClientConfig, name string, v6 bool) (a Answer, err error) {
	for _, fqdn := range conf.NameList(name) {
		if a, err = c.exchange(ctx, conf, fqdn, v6); err != nil || len(a.Addrs) > 0 {
			return a, err
		}
	}
	return a, err
}

func (c *Client) exchange(ctx context.Context, conf *dns.ClientConfig, fqdn string, v6 bool) (Answer, error) {
	q := new(dns.Msg)
	kind := dns.TypeA
	if v6 {
		kind = dns.TypeAAAA
	}
	q.SetQuestion(fqdn, kind)
	if c.UDPSize > 0 {
		q.SetEdns0(c.UDPSize, false)
	}
	err := errors.New("no DNS server was asked")
	servers := conf.Servers
	if c.Rotate {
		at := int(dns.Id()) % len(servers)
		servers = append(servers[at:len(servers):len(servers)], servers[:at]...)
	}
	for range max(c.Tries, 1) {
		for _, server := range servers {
			var r *dns.Msg
			if r, err = c.query(ctx, q, server); err == nil {
				return answer(r, kind), nil
			}
			if ctx.Err() != nil {
				return Answer{}, ctx.Err()
			}
		}
	}
	return Answer{}, err
}

func (c *Client) query(ctx context.Context, q *dns.Msg, server string) (*dns.Msg, error) {
	client := dns.Client{Timeout: c.Timeout, UDPSize: max(c.UDPSize, dns.MinMsgSize)}
	if c.TCP {
		client.Net = "tcp"
	}
	r, _, err := client.ExchangeContext(ctx, q, server)
	if err == nil && r.Truncated && !c.TCP {
		client.Net = "tcp"
		r, _, err = client.ExchangeContext(ctx, q, server)
	}
	if err != nil {
		return nil, err
	}
	if r.Rcode != dns.RcodeSuccess && r.Rcode != dns.RcodeNameError {
		return nil, fmt.Errorf("%s says %s: %w", server, dns.RcodeToString[r.Rcode], failures[r.Rcode])
	}
	return r, nil
}

func answer(r *dns.Msg, kind uint16) (a Answer) {
	a.Unknown = r.Rcode == dns.RcodeNameError
	for _, rr := range r.Answer {
		ttl := time.Duration(rr.Header().Ttl) * time.Second
		var ip net.IP
		switch v := rr.(type) {
		case *dns.A:
			ip = v.A.To4()
		case *dns.AAAA:
			ip = v.AAAA.To16()
		}
		if addr, ok := netip.AddrFromSlice(ip); ok && rr.Header().Rrtype == kind {
			if len(a.Addrs) == 0 || ttl < a.TTL {
				a.TTL = ttl
			}
			a.Addrs = append(a.Addrs, addr)
		}
	}
	return a
}

// System asks the resolver of the operating system (envoy.network.dns_resolver.getaddrinfo). It does not know how long answers hold.
type System struct{ Retries int }

// Lookup finds the addresses of name.
func (s System) Lookup(ctx context.Context, name string, f Family) (Answer, error) {
	return ask(f, nil, func(v6 bool) (a Answer, err error) {
		network := "ip4"
		if v6 {
			network = "ip6"
		}
		for range s.Retries + 1 {
			a.Addrs, err = net.DefaultResolver.LookupNetIP(ctx, network, name)
			var missing *net.DNSError
			if errors.As(err, &missing) && missing.IsNotFound {
				return Answer{}, nil
			}
			if err == nil || ctx.Err() != nil {
				break
			}
		}
		for i := range a.Addrs {
			a.Addrs[i] = a.Addrs[i].Unmap()
		}
		return a, err
	})
}
