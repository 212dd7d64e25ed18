package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/outrigger-proxy/outrigger/cluster/discovery"
)

// server answers for *.test on UDP and TCP until the test ends: name -> records in zone-file form without the name.
func server(t *testing.T, zone map[string][]string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u, err := net.ListenPacket("udp", l.Addr().String())
	if err != nil {
		t.Skipf("the UDP port of a free TCP port is taken: %v", err)
	}
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		r := new(dns.Msg).SetReply(q)
		records, ok := zone[q.Question[0].Name]
		if !ok {
			r.Rcode = dns.RcodeNameError
		}
		for _, text := range records {
			switch text {
			case "servfail":
				r.Rcode = dns.RcodeServerFailure
			case "truncate":
				r.Truncated = w.LocalAddr().Network() == "udp"
			default:
				rr, err := dns.NewRR(q.Question[0].Name + " " + text)
				if err != nil {
					t.Error(err)
				}
				if rr.Header().Rrtype == q.Question[0].Qtype && !r.Truncated {
					r.Answer = append(r.Answer, rr)
				}
			}
		}
		_ = w.WriteMsg(r)
	})
	for _, s := range []*dns.Server{{Listener: l, Handler: handler}, {PacketConn: u, Handler: handler}} {
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		go func() { _ = s.ActivateAndServe() }() // ends with Shutdown
		<-started
		t.Cleanup(func() { _ = s.Shutdown() })
	}
	return l.Addr().String()
}

func TestClient(t *testing.T) {
	at := server(t, map[string][]string{
		"both.test.": {"30 A 10.0.0.1", "20 A 10.0.0.2", "40 AAAA fd00::1"}, "four.test.": {"60 A 10.0.0.4"}, "broken.test.": {"servfail"},
		"big.test.": {"truncate", "5 A 10.0.0.5"}, "short.search.test.": {"7 A 10.0.0.7"}, "none.test.": {},
	})
	dir := t.TempDir()
	hosts, conf := filepath.Join(dir, "hosts"), filepath.Join(dir, "resolv.conf")
	for path, text := range map[string]string{hosts: "# a comment\n10.9.9.9 known.test alias # more\nfd00::9 known.test\n", conf: "search search.test\nnameserver 192.0.2.1\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name   string
		family Family
		want   string
		ttl    time.Duration
		tcp    bool
	}{
		{"both.test", V4Only, "[10.0.0.1 10.0.0.2]", 20 * time.Second, false},
		{"both.test", V6Only, "[fd00::1]", 40 * time.Second, false},
		{"both.test", Auto, "[fd00::1]", 40 * time.Second, false},
		{"both.test", V4Preferred, "[10.0.0.1 10.0.0.2]", 20 * time.Second, false},
		{"both.test", All, "[10.0.0.1 10.0.0.2 fd00::1]", 20 * time.Second, true},
		{"four.test", Auto, "[10.0.0.4]", time.Minute, false},
		{"four.test", V6Only, "[]", 0, false},
		{"big.test", V4Only, "[10.0.0.5]", 5 * time.Second, false},
		{"missing.test", All, "[]", 0, false},
		{"known.test", V4Only, "[10.9.9.9]", 0, false},
		{"ALIAS", V4Only, "[10.9.9.9]", 0, false},
		{"known.test", All, "[10.9.9.9 fd00::9]", 0, false},
		{"localhost", V4Only, "[127.0.0.1]", 0, false},
		{"localhost", Auto, "[::1]", 0, false},
		{"short", V4Only, "[10.0.0.7]", 7 * time.Second, false},
		{"broken.test", V4Only, "error", 0, false},
	} {
		client := &Client{Servers: []string{at}, Timeout: 5 * time.Second, Tries: 1, HostsFile: hosts, ResolvConf: conf, TCP: c.tcp, UDPSize: 1232}
		a, err := client.Lookup(context.Background(), c.name, c.family)
		got := fmt.Sprint(a.Addrs)
		if err != nil {
			got = "error"
		}
		if got != c.want || a.TTL != c.ttl {
			t.Errorf("%s by %v: %s for %v (%v), want %s for %v", c.name, c.family, got, a.TTL, err, c.want, c.ttl)
		}
	}
}

func TestClientGivesUp(t *testing.T) {
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	client := &Client{Servers: []string{silent.LocalAddr().String()}, Timeout: 10 * time.Millisecond, Tries: 2}
	if _, err := client.Lookup(context.Background(), "x.test", V4Only); err == nil {
		t.Error("no error from a server that does not answer")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := (&Client{Servers: client.Servers, Timeout: time.Hour}).Lookup(ctx, "x.test", V4Only); err == nil {
		t.Error("no error when cancelled")
	}
}

// rig runs a source by hand: answers come in their order, and time passes when the test says so.
type rig struct {
	answers []Answer
	errs    []error
	posted  chan func()
	waits   []time.Duration
	again   func()
	counts  string
	got     []string
}

func (r *rig) Lookup(context.Context, string, Family) (a Answer, err error) {
	a, err = r.answers[0], r.errs[0]
	r.answers, r.errs = r.answers[1:], r.errs[1:]
	return a, err
}
func (r *rig) Attempt()   { r.counts += "a" }
func (r *rig) Success()   { r.counts += "s" }
func (r *rig) Failure()   { r.counts += "f" }
func (r *rig) Empty()     { r.counts += "e" }
func (r *rig) Unchanged() { r.counts += "u" }

func (r *rig) after(d time.Duration, f func()) func() {
	r.waits, r.again = append(r.waits, d), f
	return func() {}
}

func (r *rig) update(a *discovery.Assignment) {
	if a == nil {
		r.got = append(r.got, "nothing")
		return
	}
	var l []string
	for _, e := range a.Groups[0].Endpoints {
		l = append(l, strings.TrimPrefix(e.Key+"="+e.Address.String(), "=")+fmt.Sprint(e.Additional))
	}
	r.got = append(r.got, strings.Join(l, " "))
}

func answers(r *rig, l ...string) {
	for _, s := range l {
		var a Answer
		var err error
		for f := range strings.FieldsSeq(s) {
			switch d, derr := time.ParseDuration(f); {
			case f == "fail":
				err = errors.New("servfail")
			case derr == nil:
				a.TTL = d
			default:
				a.Addrs = append(a.Addrs, netip.MustParseAddr(f))
			}
		}
		r.answers, r.errs = append(r.answers, a), append(r.errs, err)
	}
}

func TestSource(t *testing.T) {
	for _, c := range []struct {
		name    string
		config  Config
		answers []string
		got     []string
		counts  string
		waits   []time.Duration
	}{
		{
			"strict: a host for each address",
			Config{Refresh: 5 * time.Second},
			[]string{"10.0.0.2 10.0.0.1", "10.0.0.1 10.0.0.2", "10.0.0.1", "fail", ""},
			[]string{"10.0.0.1:80[] 10.0.0.2:80[]", "10.0.0.1:80[]", ""},
			"asasuasafase",
			[]time.Duration{5e9, 5e9, 5e9, 5e9, 5e9},
		},
		{
			"logical: one host that moves, and stays when it has no address",
			Config{Refresh: time.Second, Logical: true},
			[]string{"10.0.0.2 10.0.0.1", "10.0.0.1", ""},
			[]string{"x.test:80=10.0.0.2:80[10.0.0.1:80]", "x.test:80=10.0.0.1:80[]"},
			"asasase",
			[]time.Duration{1e9, 1e9, 1e9},
		},
		{"nobody waits for a failure", Config{Refresh: time.Second}, []string{"fail", "10.0.0.1"}, []string{"nothing", "10.0.0.1:80[]"}, "afas", []time.Duration{1e9, 1e9}},
		{
			"the answer says when to ask again",
			Config{Refresh: time.Second, RespectTTL: true, Least: 5 * time.Second},
			[]string{"10.0.0.1 30s", "10.0.0.1 2s", "10.0.0.1"},
			[]string{"10.0.0.1:80[]"},
			"asasuasu",
			[]time.Duration{30e9, 5e9, 1e9},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &rig{posted: make(chan func(), 1)}
			answers(r, c.answers...)
			c.config.Assignment = &discovery.Assignment{Groups: []discovery.Group{{Endpoints: []discovery.Endpoint{{Name: "x.test", Port: 80, Weight: 1}}}}}
			c.config.Resolver, c.config.Counts, c.config.After, c.config.Gate = r, r, r.after, &Gate{}
			c.config.Post = func(f func()) { r.posted <- f }
			s := New(c.config)
			s.Start(r.update)
			for i := range c.answers {
				if i > 0 {
					r.again()
				}
				(<-r.posted)()
			}
			s.Close()
			if !slices.Equal(r.got, c.got) || r.counts != c.counts || !slices.Equal(r.waits, c.waits) {
				t.Errorf("got %q, counted %s, waits %v; want %q, %s, %v", r.got, r.counts, r.waits, c.got, c.counts, c.waits)
			}
		})
	}
}

func TestBackoff(t *testing.T) {
	n := &name{s: &Source{c: Config{Refresh: time.Hour, FailureBase: time.Second, FailureMax: 4 * time.Second}}}
	for failures, most := range []time.Duration{time.Hour, time.Second, 2 * time.Second, 4 * time.Second, 4 * time.Second} {
		n.failures = uint(failures)
		for range 100 {
			if d := n.wait(Answer{}); d <= 0 || d > most {
				t.Errorf("%d failures: %v, at most %v", failures, d, most)
			}
		}
	}
	n.failures, n.s.c.Jitter = 0, time.Minute
	if d := n.wait(Answer{}); d < time.Hour || d >= time.Hour+time.Minute {
		t.Errorf("with jitter: %v", d)
	}
}

func TestClosedSourceIsSilent(t *testing.T) {
	r := &rig{posted: make(chan func(), 1)}
	answers(r, "10.0.0.1")
	s := New(Config{
		Assignment: &discovery.Assignment{Groups: []discovery.Group{{Endpoints: []discovery.Endpoint{{Name: "x.test"}}}}}, Resolver: r, Counts: r, After: r.after,
		Gate: &Gate{}, Post: func(f func()) { r.posted <- f },
	})
	s.Start(r.update)
	late := <-r.posted
	s.Close()
	late()
	if len(r.got) != 0 || len(r.waits) != 0 {
		t.Errorf("%v %v", r.got, r.waits)
	}
}

func TestGate(t *testing.T) {
	var g Gate
	ran := 0
	for range Parallel + 2 {
		g.enter(func() { ran++ })
	}
	if ran != Parallel {
		t.Errorf("%d run at a time", ran)
	}
	g.leave()
	if ran != Parallel+1 {
		t.Error("the next one had no turn")
	}
}
