package xdsclient

import (
	"maps"
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	statusv3 "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/outrigger-proxy/outrigger/internal/subscription"
)

// machine is the protocol between this proxy and one server, as a state machine: it does no I/O, knows no clock and starts nothing.
// Whoever drives it says what is wanted (want, release), when a stream begins and ends (connect, disconnect), what has come (receive)
// and what became of it (answer), and sends what requests returns.
type machine struct {
	// set at construction
	delta  bool
	always bool // the node is in every request, not in the first of a stream alone
	node   *corev3.Node
	check  func(proto.Message) error

	kinds     map[string]*kind
	order     []*kind         // in the order in which they were first wanted
	paused    map[string]bool // types that are not asked for now, by URL
	connected bool
	named     bool // the node was sent on this stream
}

// kind is what is known of one type of resources.
type kind struct {
	subscription.Type

	all    int            // how many want all there are
	wanted map[string]int // how many want it, by name
	// of the stream
	asked bool            // something was
	dirty bool            // what is wanted has changed since
	told  map[string]bool // delta: what the server knows to be wanted
	nonce string          // SotW: of the last response
	acks  []ack           // answers that wait to be sent
	// of all streams
	version string // SotW: of the last response that was taken
	have    map[string]*entry
	byBytes map[uint64]*entry // the same ones, by the hash of what came
	absent  map[string]bool   // the server has said that there is none
	failed  map[string]*Failure
}

// ack answers a response; failure is nil if it was taken.
type ack struct {
	nonce   string
	failure error
}

func newMachine(node *corev3.Node, delta, always bool, check func(proto.Message) error) *machine {
	return &machine{delta: delta, always: always, node: node, check: check, kinds: map[string]*kind{}, paused: map[string]bool{}}
}

// kind returns the state of a type, which it makes if there is none.
func (m *machine) kind(t subscription.Type) *kind {
	k := m.kinds[t.URL]
	if k == nil {
		k = &kind{Type: t, wanted: map[string]int{}, told: map[string]bool{}, have: map[string]*entry{}, byBytes: map[uint64]*entry{}, absent: map[string]bool{}, failed: map[string]*Failure{}}
		m.kinds[t.URL] = k
		m.order = append(m.order, k)
	}
	return k
}

// want notes that somebody wants resources: all there are if no names are given.
func (m *machine) want(t subscription.Type, names ...string) *kind {
	k := m.kind(t)
	if len(names) == 0 {
		k.all++
		k.dirty = k.dirty || k.all == 1
	}
	for _, n := range names {
		k.wanted[n]++
		k.dirty = k.dirty || k.wanted[n] == 1
	}
	return k
}

// release takes one want back. What nobody wants any more is forgotten.
func (m *machine) release(k *kind, names ...string) {
	if len(names) == 0 {
		k.all--
		k.dirty = k.dirty || k.all == 0
	}
	for _, n := range names {
		if k.wanted[n]--; k.wanted[n] > 0 {
			continue
		}
		delete(k.wanted, n)
		k.dirty = true
		if k.all == 0 {
			k.forget(n)
			delete(k.absent, n)
			delete(k.failed, n)
		}
	}
	if k.all == 0 && len(k.wanted) == 0 {
		k.version = ""
		for n := range k.have {
			k.forget(n)
		}
	}
}

// connect begins a stream: the server knows nothing of the one before.
func (m *machine) connect() {
	m.connected, m.named = true, false
	for _, k := range m.order {
		k.asked, k.nonce, k.acks, k.told = false, "", nil, map[string]bool{}
		k.dirty = k.all > 0 || len(k.wanted) > 0
	}
}

// disconnect ends the stream.
func (m *machine) disconnect() { m.connected = false }

// requests returns what is to be sent now: first what is newly wanted, then the answers, so that a response that leads to further wishes
// is acknowledged after they were made, as in Envoy.
func (m *machine) requests() (out []proto.Message) {
	if !m.connected {
		return nil
	}
	for _, answers := range []bool{false, true} {
		for _, k := range m.order {
			if m.paused[k.URL] || (len(k.acks) > 0) != answers {
				continue
			}
			for k.dirty || len(k.acks) > 0 {
				if r := m.request(k); r != nil {
					out = append(out, r)
				}
			}
		}
	}
	return out
}

// request takes the next request of a kind; nil: there is nothing to say after all.
func (m *machine) request(k *kind) proto.Message {
	var a *ack
	if len(k.acks) > 0 {
		a = &k.acks[0]
		k.acks = k.acks[1:]
	}
	first := !k.asked
	k.asked, k.dirty = true, false
	if m.delta {
		r := m.deltaRequest(k, first)
		if a == nil && !first && len(r.GetResourceNamesSubscribe()) == 0 && len(r.GetResourceNamesUnsubscribe()) == 0 {
			return nil
		}
		if a != nil {
			r.ResponseNonce, r.ErrorDetail = a.nonce, detail(a.failure)
		}
		r.Node = m.introduce()
		return r
	}
	r := &discoveryv3.DiscoveryRequest{TypeUrl: k.URL, VersionInfo: k.version, ResponseNonce: k.nonce, Node: m.introduce()}
	if k.all == 0 {
		r.ResourceNames = slices.Sorted(maps.Keys(k.wanted))
	}
	if a != nil {
		r.ErrorDetail = detail(a.failure)
	}
	return r
}

func (m *machine) deltaRequest(k *kind, first bool) *discoveryv3.DeltaDiscoveryRequest {
	r := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: k.URL}
	for n := range k.wanted {
		if !k.told[n] {
			r.ResourceNamesSubscribe = append(r.ResourceNamesSubscribe, n)
			k.told[n] = true
		}
	}
	for n := range k.told {
		if k.wanted[n] == 0 {
			r.ResourceNamesUnsubscribe = append(r.ResourceNamesUnsubscribe, n)
			delete(k.told, n)
		}
	}
	slices.Sort(r.ResourceNamesSubscribe)
	slices.Sort(r.ResourceNamesUnsubscribe)
	if k.all > 0 && len(r.ResourceNamesSubscribe) > 0 && first {
		r.ResourceNamesSubscribe = append([]string{"*"}, r.ResourceNamesSubscribe...)
	}
	if !first || len(k.have) == 0 {
		return r
	}
	r.InitialResourceVersions = map[string]string{}
	for n, e := range k.have {
		r.InitialResourceVersions[n] = e.version
	}
	return r
}

// introduce returns the node if the next request is to have it.
func (m *machine) introduce() *corev3.Node {
	if m.named && !m.always {
		return nil
	}
	m.named = true
	return m.node
}

// maxDetail is how long the text of a refusal may be: it travels in frames of limited size (Envoy: truncateGrpcStatusMessage).
const maxDetail = 4096

func detail(err error) *statusv3.Status {
	if err == nil {
		return nil
	}
	const internal = 13 // google.rpc.Code
	text := err.Error()
	if len(text) > maxDetail {
		text = text[:maxDetail] + "...(truncated)"
	}
	return &statusv3.Status{Code: internal, Message: string([]rune(text))}
}

// answer notes what became of a batch: err rejects all of it, or the resources that a *subscription.RejectedError names.
func (m *machine) answer(b *batch, err error) {
	k := b.kind
	b.settle(err)
	k.nonce = b.nonce
	if err == nil && !m.delta {
		k.version = b.version
	}
	if !m.delta {
		k.acks = k.acks[:0] // one answer says it all
	}
	k.acks = append(k.acks, ack{b.nonce, err})
}
