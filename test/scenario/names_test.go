package scenario

import (
	"net"
	"strings"
	"sync"

	"github.com/miekg/dns"
)

// names is a DNS server. Its records are lines of a name and addresses; `name fails` answers with SERVFAIL, and `name silent` never.
// What is not there does not exist. All answers hold for a second.
type names struct {
	port  int
	s     *dns.Server
	ended chan struct{}

	mu      sync.Mutex
	records map[string][]string
	asked   []string
}

func newNames(text string) (*names, error) {
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	n := &names{port: c.LocalAddr().(*net.UDPAddr).Port, ended: make(chan struct{})}
	n.s = &dns.Server{PacketConn: c, Handler: n}
	n.set(text)
	started := make(chan struct{})
	n.s.NotifyStartedFunc = func() { close(started) }
	go func() { _ = n.s.ActivateAndServe(); close(n.ended) }() // ends with close
	<-started
	return n, nil
}

func (n *names) close() {
	_ = n.s.Shutdown()
	<-n.ended
}

// set replaces the records.
func (n *names) set(text string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.records = map[string][]string{}
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) > 1 {
			n.records[f[0]+"."] = f[1:]
		}
	}
}

// saw tells which questions were asked.
func (n *names) saw() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return strings.Join(n.asked, "\n")
}

func (n *names) forget() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked = nil
}

// ServeDNS answers one question.
func (n *names) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	n.mu.Lock()
	name, kind := q.Question[0].Name, q.Question[0].Qtype
	n.asked = append(n.asked, strings.TrimSuffix(name, ".")+" "+dns.TypeToString[kind])
	record, ok := n.records[strings.ToLower(name)]
	n.mu.Unlock()
	r := new(dns.Msg).SetReply(q)
	switch {
	case !ok:
		r.Rcode = dns.RcodeNameError
	case record[0] == "fails":
		r.Rcode = dns.RcodeServerFailure
	case record[0] == "silent":
		return
	default:
		for _, a := range record {
			if strings.Contains(a, ":") == (kind == dns.TypeAAAA) {
				rr, err := dns.NewRR(name + " 1 " + dns.TypeToString[kind] + " " + a)
				if err == nil {
					r.Answer = append(r.Answer, rr)
				}
			}
		}
	}
	_ = w.WriteMsg(r)
}
