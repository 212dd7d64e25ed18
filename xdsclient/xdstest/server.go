// Package xdstest is a management server for tests: it serves resources over the aggregated stream and the streams of single types,
// in both protocols, pushes what changes, and remembers what it was asked and told.
package xdstest

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/outrigger-proxy/outrigger/internal/subscription"
)

// Event is a request as the server saw it.
type Event struct {
	Type        string // type URL
	Names       []string
	Unsubscribe []string
	Initial     map[string]string
	Version     string
	Nonce       string
	Error       string
	Node        string
	Stream      int
}

// Ack says whether the request accepts a response.
func (e *Event) Ack() bool { return e.Nonce != "" && e.Error == "" }

// Nack says whether it rejects one.
func (e *Event) Nack() bool { return e.Error != "" }

// Server is a management server. Its methods may be called from any goroutine.
type Server struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	secretv3.UnimplementedSecretDiscoveryServiceServer

	t        testing.TB
	network  string
	address  string
	mu       sync.Mutex // guards the fields below
	changed  *sync.Cond
	version  int
	have     map[string]map[string]item
	events   []Event
	streams  int
	mute     bool
	server   *grpc.Server
	listener net.Listener
}

type item struct {
	version string
	body    *anypb.Any
}

// New starts a server on a port of the loopback interface. It ends with the test.
func New(tb testing.TB) *Server { tb.Helper(); return on(tb, "tcp", "127.0.0.1:0") }

// Unix starts a server on a unix socket.
func Unix(tb testing.TB, path string) *Server { tb.Helper(); return on(tb, "unix", path) }

func on(tb testing.TB, network, address string) *Server {
	tb.Helper()
	s := &Server{t: tb, network: network, address: address, have: map[string]map[string]item{}}
	s.changed = sync.NewCond(&s.mu)
	s.Start()
	tb.Cleanup(s.Stop)
	return s
}

// Address is where the server listens; it stays the same when the server is stopped and started.
func (s *Server) Address() string { return s.address }

// Port is that of the address.
func (s *Server) Port() uint32 {
	_, port, err := net.SplitHostPort(s.address)
	if err != nil {
		s.t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		s.t.Fatal(err)
	}
	return uint32(n)
}

// Start serves, after Stop.
func (s *Server) Start() {
	l, err := net.Listen(s.network, s.address)
	if err != nil {
		s.t.Fatal(err)
	}
	g := grpc.NewServer()
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(g, s)
	secretv3.RegisterSecretDiscoveryServiceServer(g, s)
	s.mu.Lock()
	s.address, s.listener, s.server = l.Addr().String(), l, g
	s.mu.Unlock()
	go func() { _ = g.Serve(l) }() // ends with Stop
}

// Stop breaks every stream and listens no more.
func (s *Server) Stop() {
	s.mu.Lock()
	g := s.server
	s.server = nil
	s.changed.Broadcast()
	s.mu.Unlock()
	if g != nil {
		g.Stop()
	}
}

// Set replaces the resources of a type and pushes them.
func (s *Server) Set(t subscription.Type, resources ...proto.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version++
	now := map[string]item{}
	for _, m := range resources {
		body, err := anypb.New(m)
		if err != nil {
			s.t.Fatal(err)
		}
		name := m.ProtoReflect().Get(m.ProtoReflect().Descriptor().Fields().ByName(protoreflect.Name(t.NameField))).String()
		i := item{strconv.Itoa(s.version), body}
		if old, ok := s.have[t.URL][name]; ok && proto.Equal(old.body, body) {
			i.version = old.version
		}
		now[name] = i
	}
	s.have[t.URL] = now
	s.changed.Broadcast()
}

// Touch pushes the resources of a type again, with new versions.
func (s *Server) Touch(t subscription.Type) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version++
	now := map[string]item{}
	for name, i := range s.have[t.URL] {
		now[name] = item{strconv.Itoa(s.version), i.body}
	}
	s.have[t.URL] = now
	s.changed.Broadcast()
}

// Put adds or replaces one resource and pushes.
func (s *Server) Put(t subscription.Type, name string, body *anypb.Any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version++
	if s.have[t.URL] == nil {
		s.have[t.URL] = map[string]item{}
	}
	s.have[t.URL] = maps.Clone(s.have[t.URL])
	s.have[t.URL][name] = item{strconv.Itoa(s.version), body}
	s.changed.Broadcast()
}

// Mute makes the server say nothing, or speak again.
func (s *Server) Mute(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mute = on
	s.changed.Broadcast()
}

// Version is that of the last change.
func (s *Server) Version() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strconv.Itoa(s.version)
}

// Events returns what was asked and told so far.
func (s *Server) Events() []Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.events)
}

// Wait returns the first event from the n-th on that is wanted, and the number of the one after it.
func (s *Server) Wait(n int, what string, wanted func(*Event) bool) (Event, int) {
	s.t.Helper()
	const patience = 10 * time.Second
	late := time.AfterFunc(patience, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.changed.Broadcast()
	})
	defer late.Stop()
	end := time.Now().Add(patience)
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		for ; n < len(s.events); n++ {
			if wanted(&s.events[n]) {
				return s.events[n], n + 1
			}
		}
		if !time.Now().Before(end) {
			s.t.Fatalf("there was no %s; the server saw %+v", what, s.events)
		}
		s.changed.Wait()
	}
}

// WaitAck waits until the current version of a type is accepted.
func (s *Server) WaitAck(t subscription.Type) {
	s.t.Helper()
	v := s.Version()
	s.Wait(0, fmt.Sprintf("ACK of %s %s", t.URL, v), func(e *Event) bool { return e.Type == t.URL && e.Ack() && e.Nonce == v })
}

// WaitNack waits until the current version of a type is rejected, and returns the reason.
func (s *Server) WaitNack(t subscription.Type) string {
	s.t.Helper()
	v := s.Version()
	e, _ := s.Wait(0, fmt.Sprintf("NACK of %s %s", t.URL, v), func(e *Event) bool { return e.Type == t.URL && e.Nack() && e.Nonce == v })
	return e.Error
}

func (s *Server) note(e Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, e)
	s.changed.Broadcast()
}

func (s *Server) begin() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams++
	return s.streams
}

// StreamAggregatedResources implements the service, as the next three do.
func (s *Server) StreamAggregatedResources(g discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesServer) error {
	return s.whole(g)
}

// DeltaAggregatedResources is the incremental protocol.
func (s *Server) DeltaAggregatedResources(g discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	return s.difference(g)
}

// StreamSecrets is SDS on a stream of its own.
func (s *Server) StreamSecrets(g secretv3.SecretDiscoveryService_StreamSecretsServer) error {
	return s.whole(g)
}

// DeltaSecrets is the incremental protocol.
func (s *Server) DeltaSecrets(g secretv3.SecretDiscoveryService_DeltaSecretsServer) error {
	return s.difference(g)
}

// wants is what a stream is subscribed to, of one type.
type wants struct {
	names map[string]bool
	all   bool
	sent  map[string]string // versions, by name
	told  bool
}

func (w *wants) wanted(name string) bool { return w.all || w.names[name] }

// push calls send for every type of which there is something new, until the stream ends.
func (s *Server) push(g grpc.ServerStream, subs map[string]*wants, order *[]string, send func(url string, w *wants) error) {
	stop := make(chan struct{})
	defer close(stop)
	go func() { // ends with the stream
		select {
		case <-g.Context().Done():
		case <-stop:
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.changed.Broadcast()
	}()
	s.mu.Lock()
	defer s.mu.Unlock()
	for g.Context().Err() == nil && s.server != nil {
		for _, url := range *order {
			w := subs[url]
			if s.mute || !s.news(url, w) {
				continue
			}
			if send(url, w) != nil {
				return
			}
		}
		s.changed.Wait()
	}
}

// news says whether there is something that the stream has not been sent.
func (s *Server) news(url string, w *wants) bool {
	if !w.told {
		return true
	}
	now := map[string]string{}
	for name, i := range s.have[url] {
		if w.wanted(name) {
			now[name] = i.version
		}
	}
	return !maps.Equal(now, w.sent)
}

func (s *Server) whole(g grpc.BidiStreamingServer[discoveryv3.DiscoveryRequest, discoveryv3.DiscoveryResponse]) error {
	stream, subs, order := s.begin(), map[string]*wants{}, []string{}
	go s.push(g, subs, &order, func(url string, w *wants) error { // ends with the stream
		r := &discoveryv3.DiscoveryResponse{TypeUrl: url, VersionInfo: strconv.Itoa(s.version), Nonce: strconv.Itoa(s.version), ControlPlane: &corev3.ControlPlane{Identifier: "xdstest"}}
		w.sent, w.told = map[string]string{}, true
		for _, name := range slices.Sorted(maps.Keys(s.have[url])) {
			if i := s.have[url][name]; w.wanted(name) {
				r.Resources, w.sent[name] = append(r.Resources, i.body), i.version
			}
		}
		return g.Send(r)
	})
	for {
		q, err := g.Recv()
		if err != nil {
			return nil //nolint:nilerr // the stream has ended, as streams do
		}
		s.note(Event{
			Type: q.GetTypeUrl(), Names: q.GetResourceNames(), Version: q.GetVersionInfo(), Nonce: q.GetResponseNonce(),
			Error: q.GetErrorDetail().GetMessage(), Node: q.GetNode().GetId(), Stream: stream,
		})
		s.mu.Lock()
		w := subs[q.GetTypeUrl()]
		if w == nil {
			w = &wants{all: true}
			subs[q.GetTypeUrl()] = w
			order = append(order, q.GetTypeUrl())
		}
		now := map[string]bool{}
		for _, n := range q.GetResourceNames() {
			now[n] = true
		}
		if !maps.Equal(now, w.names) {
			w.names, w.all = now, false
			w.told = false
		}
		s.changed.Broadcast()
		s.mu.Unlock()
	}
}

func (s *Server) difference(g grpc.BidiStreamingServer[discoveryv3.DeltaDiscoveryRequest, discoveryv3.DeltaDiscoveryResponse]) error {
	stream, subs, order := s.begin(), map[string]*wants{}, []string{}
	go s.push(g, subs, &order, func(url string, w *wants) error { // ends with the stream
		r := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: url, SystemVersionInfo: strconv.Itoa(s.version), Nonce: strconv.Itoa(s.version), ControlPlane: &corev3.ControlPlane{Identifier: "xdstest"}}
		for _, name := range slices.Sorted(maps.Keys(s.have[url])) {
			if i := s.have[url][name]; w.wanted(name) && w.sent[name] != i.version {
				r.Resources = append(r.Resources, &discoveryv3.Resource{Name: name, Version: i.version, Resource: i.body})
				w.sent[name] = i.version
			}
		}
		for name := range w.sent {
			if _, ok := s.have[url][name]; !ok || !w.wanted(name) {
				if w.wanted(name) {
					r.RemovedResources = append(r.RemovedResources, name)
				}
				delete(w.sent, name)
			}
		}
		w.told = true
		return g.Send(r)
	})
	for {
		q, err := g.Recv()
		if err != nil {
			return nil //nolint:nilerr // the stream has ended, as streams do
		}
		s.note(Event{
			Type: q.GetTypeUrl(), Names: q.GetResourceNamesSubscribe(), Unsubscribe: q.GetResourceNamesUnsubscribe(), Initial: q.GetInitialResourceVersions(),
			Nonce: q.GetResponseNonce(), Error: q.GetErrorDetail().GetMessage(), Node: q.GetNode().GetId(), Stream: stream,
		})
		s.mu.Lock()
		w := subs[q.GetTypeUrl()]
		if w == nil {
			w = &wants{names: map[string]bool{}, sent: map[string]string{}, all: len(q.GetResourceNamesSubscribe()) == 0}
			maps.Copy(w.sent, q.GetInitialResourceVersions())
			subs[q.GetTypeUrl()] = w
			order = append(order, q.GetTypeUrl())
		}
		for _, n := range q.GetResourceNamesSubscribe() {
			w.names[n], w.told = true, false
		}
		for _, n := range q.GetResourceNamesUnsubscribe() {
			delete(w.names, n)
		}
		s.changed.Broadcast()
		s.mu.Unlock()
	}
}
