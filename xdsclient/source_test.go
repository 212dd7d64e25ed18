package xdsclient

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/outrigger-proxy/outrigger/internal/stats"
	"github.com/outrigger-proxy/outrigger/internal/subscription"
)

// loop is a control loop for tests.
type loop struct{ queue chan func() }

func newLoop(t *testing.T) *loop {
	l := &loop{make(chan func(), 100)}
	done := make(chan struct{})
	go func() { // ends with the test
		defer close(done)
		for f := range l.queue {
			f()
		}
	}()
	t.Cleanup(func() { close(l.queue); <-done })
	return l
}

func (l *loop) post(f func()) bool {
	l.queue <- f
	return true
}

func (l *loop) do(f func()) {
	done := make(chan struct{})
	l.post(func() { f(); close(done) })
	<-done
}

// watcher remembers what it was told.
type watcher struct {
	told   []string
	refuse error
	heard  chan struct{}
}

func newWatcher() *watcher { return &watcher{heard: make(chan struct{}, 100)} }

func (w *watcher) Update(u *subscription.Update) error {
	line := "update " + u.Version
	for _, r := range u.Resources {
		line += " " + r.Name
		if r.Same {
			line += "(same)"
		}
	}
	for _, n := range u.Removed {
		line += " -" + n
	}
	w.told = append(w.told, line)
	w.heard <- struct{}{}
	return w.refuse
}

func (w *watcher) Failed() {
	w.told = append(w.told, "failed")
	w.heard <- struct{}{}
}

func newTestClient(t *testing.T, l *loop) *Client {
	c, err := New(Config{
		Node: &corev3.Node{Id: "me", Cluster: "here"}, HasCluster: func(string) error { return nil }, Check: checkTest, Post: l.post,
		Stats: &stats.Store{}, Log: zap.NewNop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.do(c.Close); c.Wait() })
	return c
}

func TestFile(t *testing.T) {
	l := newLoop(t)
	c := newTestClient(t, l)
	path := filepath.Join(t.TempDir(), "cds.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	cluster := func(name, more string) string {
		return "- {'@type': type.googleapis.com/envoy.config.cluster.v3.Cluster, name: " + name + more + "}\n"
	}
	write("version_info: a\nresources:\n" + cluster("x", ""))
	w := newWatcher()
	l.do(func() {
		s, err := c.Subscribe(&corev3.ConfigSource{ConfigSourceSpecifier: &corev3.ConfigSource_Path{Path: path}}, subscription.Wish{
			Type: subscription.Clusters(), Scope: c.Stats.Root().Sub("cds"), Watcher: w,
		})
		if err != nil {
			t.Error(err)
			return
		}
		s.Start()
	})
	<-w.heard
	for _, text := range []string{
		"version_info: b\nresources:\n" + cluster("x", ", alt_stat_name: x2") + cluster("z", ""),
		"version_info: c\nresources:\n" + cluster("x", ", lb_policy: 99") + cluster("z", ""),
		"resources: [{nonsense: 1}]",
		"version_info: d\nresources:\n" + cluster("z", ""),
	} {
		write(text)
		<-w.heard
		for len(w.heard) > 0 {
			<-w.heard
		}
	}
	l.do(func() {
		want := []string{"update a x", "update b x z", "update c x(same) z(same)", "failed", "failed", "update d z(same)"}
		if !slices.Equal(w.told, want) {
			t.Errorf("told %q, want %q", w.told, want)
		}
		s := stats.New[subscription.Stats](c.Stats.Root().Sub("cds"))
		if s.Success.Value() != 3 || s.Rejected.Value() != 1 || s.Failure.Value() != 1 || s.VersionText.Value() != "d" {
			t.Errorf("%d successes, %d rejected, %d failures, version %s", s.Success.Value(), s.Rejected.Value(), s.Failure.Value(), s.VersionText.Value())
		}
	})
}

// script is a transport whose streams do what the test says.
type script struct {
	opened chan *scriptedConn
	fail   error
}

type scriptedConn struct {
	ctx  context.Context
	in   chan proto.Message
	sent chan proto.Message
}

func (s *script) open(ctx context.Context, _ string) (conn, error) {
	if s.fail != nil {
		return nil, s.fail
	}
	c := &scriptedConn{ctx, make(chan proto.Message, 10), make(chan proto.Message, 10)}
	s.opened <- c
	return c, nil
}

func (c *scriptedConn) Send(m proto.Message) error {
	c.sent <- m
	return nil
}

func (c *scriptedConn) Recv(m proto.Message) error {
	select {
	case p, ok := <-c.in:
		if !ok {
			return io.EOF
		}
		proto.Merge(m, p)
		return nil
	case <-c.ctx.Done():
		return c.ctx.Err()
	}
}

func (c *scriptedConn) Close() {}

// scripted makes a subscription with a stream of its own over a script.
func scripted(c *Client, s *script, w *watcher, timeout time.Duration, limits *corev3.RateLimitSettings, names ...string) *watch {
	x := c.newMux(&stream{c: c, transport: s, backoff: newBackoff(nil), limits: limits}, false, &corev3.ApiConfigSource{SetNodeOnFirstMessageOnly: true}, stats.New[controlStats](c.Stats.Root().Sub("control_plane")))
	own := x.watch(subscription.Wish{Type: subscription.Endpoints(), Names: names, Scope: c.Stats.Root().Sub("eds"), Watcher: w}, timeout)
	own.own = true
	return own
}

func TestInitialFetchTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLoop(t)
		c := newTestClient(t, l)
		s := &script{opened: make(chan *scriptedConn, 2)}
		never, late := newWatcher(), newWatcher()
		l.do(func() {
			scripted(c, s, never, 0, nil, "a").Start()
			scripted(c, s, late, 15*time.Second, nil, "b").Start()
		})
		begun := time.Now()
		<-late.heard
		if d := time.Since(begun); d != 15*time.Second {
			t.Errorf("nobody waits after %v", d)
		}
		time.Sleep(time.Hour)
		if len(never.told) > 0 {
			t.Error("a timeout of 0 has ended")
		}
	})
}

func TestStreamsAreOpenedAgainWithBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLoop(t)
		c := newTestClient(t, l)
		s := &script{opened: make(chan *scriptedConn, 1)}
		w := newWatcher()
		l.do(func() { scripted(c, s, w, 0, nil, "a").Start() })
		first := <-s.opened
		if q := (<-first.sent).(*discoveryv3.DiscoveryRequest); q.GetNode().GetId() != "me" || !slices.Equal(q.GetResourceNames(), []string{"a"}) {
			t.Errorf("the first request is %v", q)
		}
		first.in <- &discoveryv3.DiscoveryResponse{TypeUrl: subscription.Endpoints().URL, VersionInfo: "7", Nonce: "n"}
		if q := (<-first.sent).(*discoveryv3.DiscoveryRequest); q.GetResponseNonce() != "n" || q.GetVersionInfo() != "7" || q.GetNode() != nil {
			t.Errorf("the answer is %v", q)
		}
		close(first.in)
		begun := time.Now()
		second := <-s.opened
		if d := time.Since(begun); d > backoffBase {
			t.Errorf("the stream was opened again after %v", d)
		}
		if q := (<-second.sent).(*discoveryv3.DiscoveryRequest); q.GetNode() == nil || q.GetVersionInfo() != "7" || q.GetResponseNonce() != "" {
			t.Errorf("the first request of the new stream is %v", q)
		}
	})
}

func TestBackoff(t *testing.T) {
	b := newBackoff(&corev3.BackoffStrategy{BaseInterval: durationpb.New(time.Second), MaxInterval: durationpb.New(3 * time.Second)})
	b.random = func(n int64) int64 { return n - 1 }
	for _, want := range []time.Duration{time.Second, 2 * time.Second, 3 * time.Second, 3 * time.Second} {
		if d := b.delay() + 1; d != want {
			t.Errorf("waits %v, want %v", d, want)
		}
	}
	b.reset()
	if d := b.delay() + 1; d != time.Second {
		t.Errorf("after a success: waits %v", d)
	}
}

func TestRateLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &controlStats{}
		l := newLimiter(&corev3.RateLimitSettings{MaxTokens: wrapperspb.UInt32(2), FillRate: wrapperspb.Double(0.5)})
		begun := time.Now()
		for range 4 {
			if !l.wait(t.Context(), s) {
				t.Fatal("the context has ended")
			}
		}
		if d := time.Since(begun).Round(time.Second); d != 4*time.Second || s.Limited.Value() != 2 {
			t.Errorf("four requests take %v, %d were held back", d, s.Limited.Value())
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if l.wait(ctx, s) {
			t.Error("a token after the end")
		}
	})
}

func TestTimeToLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLoop(t)
		c := newTestClient(t, l)
		s := &script{opened: make(chan *scriptedConn, 1)}
		w := newWatcher()
		l.do(func() { scripted(c, s, w, 0, nil, "a").Start() })
		st := <-s.opened
		wrapped := func(r *discoveryv3.Resource) *discoveryv3.DiscoveryResponse {
			a := resource(t, subscription.Endpoints(), "a", "1")
			if r.Resource == nil && r.Version == "" {
				a = nil
			}
			r.Name, r.Resource, r.Ttl = "a", a, durationpb.New(10*time.Second)
			b, err := anyOfMessage(r)
			if err != nil {
				t.Fatal(err)
			}
			return &discoveryv3.DiscoveryResponse{TypeUrl: subscription.Endpoints().URL, VersionInfo: "1", Resources: b}
		}
		st.in <- wrapped(&discoveryv3.Resource{Version: "1"})
		<-w.heard
		time.Sleep(8 * time.Second)
		st.in <- wrapped(&discoveryv3.Resource{}) // a heartbeat
		begun := time.Now()
		<-w.heard
		if d := time.Since(begun); d != 10*time.Second {
			t.Errorf("the resource has gone after %v", d)
		}
		if want := []string{"update 1 a", "update 1 -a"}; !slices.Equal(w.told, want) {
			t.Errorf("told %q, want %q", w.told, want)
		}
	})
}

func TestRefusedSources(t *testing.T) {
	l := newLoop(t)
	c := newTestClient(t, l)
	c.HasCluster = func(n string) error {
		if n != "xds" {
			return errors.New("Unknown gRPC client cluster '" + n + "'")
		}
		return nil
	}
	for want, text := range map[string]string{
		"ads: there is no ads_config":                                  "ads: {}",
		"path: paths must refer to an existing path":                   "path: /nowhere",
		"path_config_source.path: poll_interval":                       "path_config_source: {path: /dev/null, poll_interval: 1s}",
		"api_config_source.grpc_services":                              "api_config_source: {api_type: GRPC}",
		"envoy_grpc.cluster_name: Unknown gRPC client cluster 'other'": "api_config_source: {api_type: GRPC, grpc_services: [{envoy_grpc: {cluster_name: other}}]}",
		"api_config_source.cluster_names: API configs must have":       "api_config_source: {api_type: REST, refresh_delay: 1s}",
		"api_config_source.refresh_delay":                              "api_config_source: {api_type: REST, cluster_names: [xds]}",
		"grpc_services: a second server":                               "api_config_source: {api_type: GRPC, grpc_services: [{envoy_grpc: {cluster_name: xds}}, {envoy_grpc: {cluster_name: xds}}]}",
		"google_grpc.channel_credentials.google_default":               "api_config_source: {api_type: GRPC, grpc_services: [{google_grpc: {target_uri: 'a:1', stat_prefix: x, channel_credentials: {google_default: {}}}}]}",
		"google_grpc.target_uri":                                       "api_config_source: {api_type: GRPC, grpc_services: [{google_grpc: {target_uri: nowhere, stat_prefix: x}}]}",
		"api_config_source.api_type":                                   "api_config_source: {api_type: AGGREGATED_GRPC}",
		"api_config_source.transport_api_version":                      "api_config_source: {api_type: GRPC, transport_api_version: V2, grpc_services: [{envoy_grpc: {cluster_name: xds}}]}",
		"config_source_specifier":                                      "initial_fetch_timeout: 1s",
		"resource_api_version":                                         "{ads: {}, resource_api_version: V2}",
		"self: ":                                                       "self: {}",
	} {
		p := &corev3.ConfigSource{}
		parseTest(t, text, p)
		_, err := c.Subscribe(p, subscription.Wish{Type: subscription.Endpoints(), Names: []string{"a"}, Scope: c.Stats.Root(), Watcher: newWatcher()})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}
