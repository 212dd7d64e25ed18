package dynamic

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/outrigger-proxy/outrigger/filter/all"
	"github.com/outrigger-proxy/outrigger/internal/protofile"
	"github.com/outrigger-proxy/outrigger/internal/subscription"
	"github.com/outrigger-proxy/outrigger/internal/transport/pkitest"
	"github.com/outrigger-proxy/outrigger/test/harness"
	"github.com/outrigger-proxy/outrigger/xdsclient/xdstest"
)

// captures is where everything is that a real istiod has sent to real nodes.
const captures = "../../../shared/xds/captures"

// TestCaptures serves what istiod has sent, and wants no resource to be refused but those that need extensions which are not there.
func TestCaptures(t *testing.T) {
	paths, err := filepath.Glob(captures + "/*/*/*/resources.pb")
	if err != nil {
		t.Fatal(err)
	}
	more, err := filepath.Glob(captures + "/*/*/resources.pb")
	if err != nil {
		t.Fatal(err)
	}
	if paths = append(paths, more...); len(paths) == 0 {
		t.Skip("the captures are no part of this repository")
	}
	for _, path := range paths {
		dir := filepath.Dir(path)
		name, _ := filepath.Rel(captures, dir)
		if !strings.Contains(name, "scale") { // the same again, by the thousand
			t.Run(filepath.ToSlash(name), func(t *testing.T) { replay(t, path, filepath.Base(dir), false) })
		}
		t.Run(filepath.ToSlash(name)+"/stripped", func(t *testing.T) { replay(t, path, filepath.Base(dir), true) })
	}
}

func replay(t *testing.T, path, protocol string, stripped bool) {
	c := readCapture(t, path, stripped)
	server := xdstest.New(t)
	server.Set(subscription.Secrets(), c.secrets(t)...)
	for _, typ := range []subscription.Type{subscription.Clusters(), subscription.Endpoints(), subscription.Listeners(), subscription.Routes()} {
		server.Set(typ, c.resources[typ.URL]...)
	}
	api := map[string]string{"sotw": "GRPC", "delta": "DELTA_GRPC"}[protocol]
	s := harness.Start(t, adsBootstrap(server, api)+strings.ReplaceAll(adsCluster(server), "name: xds,", "name: sds-grpc,"))
	reasons := refused(s)
	for _, e := range server.Events() {
		if e.Nack() && (e.Type == subscription.Routes().URL || e.Type == subscription.Endpoints().URL) {
			reasons = append(reasons, e.Error)
		}
	}
	for _, reason := range reasons {
		if slices.ContainsFunc(later, func(l string) bool { return strings.Contains(reason, l) }) {
			t.Log(reason)
			continue
		}
		t.Error(reason)
	}
}

// later are the reasons that come from what is not built yet, and from nothing else.
var later = []string{
	"envoy.tcp.metadataexchange.config.MetadataExchange", "io.istio.http.peer_metadata.Config", "stats.PluginConfig",
	"istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig",
	"envoy.extensions.filters.http.fault.v3.HTTPFault", "envoy.extensions.filters.http.rbac.v3.RBAC", "envoy.extensions.filters.http.lua.v3.Lua",
	"envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit", "envoy.extensions.filters.http.cors.v3.Cors",
	"envoy.extensions.filters.network.mongo_proxy.v3.MongoProxy", "envoy.extensions.filters.network.redis_proxy.v3.RedisProxy",
	"envoy.extensions.filters.network.mysql_proxy.v3.MySQLProxy", "envoy.extensions.filters.network.rbac.v3.RBAC",
	"envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter", "envoy.extensions.access_loggers.grpc.v3.TcpGrpcAccessLogConfig",
	"tracing.provider: tracers", "tunneling_config: tunnels over HTTP",
	"HTTP/2 upstreams are not supported yet", "lb_policy: MAGLEV", "lb_policy: RING_HASH",
}

// refused are the reasons why resources are not in force, without their names.
func refused(s *harness.Proxy) []string {
	reasons := map[string]int{}
	note := func(state any) {
		if m, ok := state.(map[string]any); ok {
			text, _ := m["details"].(string)
			reasons[paths.ReplaceAllString(text, "")]++
		}
	}
	for _, kind := range []string{"dynamic_active_clusters", "dynamic_warming_clusters", "dynamic_listeners"} {
		for _, c := range s.Dump(kind) {
			note(c["error_state"])
		}
	}
	var l []string
	for _, r := range slices.Sorted(maps.Keys(reasons)) {
		l = append(l, fmt.Sprintf("%d x %s", reasons[r], r))
	}
	return l
}

// paths are what differs between resources that are refused for one reason.
var paths = regexp.MustCompile(`(cluster|listener) "[^"]*": |\[[^\]]*\]`)

// capture is what one node was sent.
type capture struct {
	resources map[string][]proto.Message // by type URL
	names     map[string]bool            // of secrets; true: for validation
}

func readCapture(t *testing.T, path string, stripped bool) *capture {
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	c := &capture{map[string][]proto.Message{}, map[string]bool{}}
	for r := bufio.NewReader(f); ; {
		n, err := binary.ReadUvarint(r)
		if errors.Is(err, io.EOF) {
			return c
		}
		b := make([]byte, n)
		if _, err2 := io.ReadFull(r, b); err != nil || err2 != nil {
			t.Fatal(err, err2)
		}
		p := &discoveryv3.Resource{}
		if err := proto.Unmarshal(b, p); err != nil {
			t.Fatal(err)
		}
		m, err := p.GetResource().UnmarshalNew()
		if err != nil {
			continue // of Istio's own
		}
		if l, ok := m.(*listenerv3.Listener); ok && (l.GetBindToPort() == nil || l.GetBindToPort().GetValue()) {
			l.Address = anyAddress()
			l.AdditionalAddresses = nil
		}
		if stripped {
			strip(m.ProtoReflect())
		}
		c.look(m.ProtoReflect())
		c.resources[p.GetResource().GetTypeUrl()] = append(c.resources[p.GetResource().GetTypeUrl()], m)
	}
}

func anyAddress() *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: "127.0.0.1", PortSpecifier: &corev3.SocketAddress_PortValue{},
	}}}
}

// look finds the names of secrets.
func (c *capture) look(m protoreflect.Message) {
	switch p := m.Interface().(type) {
	case *anypb.Any:
		if inner, _, err := protofile.Unpack(p); err == nil {
			c.look(inner.ProtoReflect())
		}
		return
	case *tlsv3.CommonTlsContext:
		for _, s := range p.GetTlsCertificateSdsSecretConfigs() {
			c.names[s.GetName()] = false
		}
		for _, s := range []*tlsv3.SdsSecretConfig{p.GetValidationContextSdsSecretConfig(), p.GetCombinedValidationContext().GetValidationContextSdsSecretConfig()} {
			if s != nil {
				c.names[s.GetName()] = true
			}
		}
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsMap():
			if f.MapValue().Message() != nil {
				v.Map().Range(func(_ protoreflect.MapKey, e protoreflect.Value) bool { c.look(e.Message()); return true })
			}
		case f.Message() == nil:
		case f.IsList():
			for i := range v.List().Len() {
				c.look(v.List().Get(i).Message())
			}
		default:
			c.look(v.Message())
		}
		return true
	})
}

func (c *capture) secrets(t *testing.T) (l []proto.Message) {
	ca := pkitest.Authority(t, "mesh")
	leaf := ca.Issue(t, pkitest.Leaf{URIS: []string{"spiffe://cluster.local/ns/default/sa/default"}})
	inline := func(s string) *corev3.DataSource {
		return &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: s}}
	}
	for _, name := range slices.Sorted(maps.Keys(c.names)) {
		s := &tlsv3.Secret{Name: name, Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{CertificateChain: inline(leaf.Chain()), PrivateKey: inline(leaf.KeyPEM(t))}}}
		if c.names[name] {
			s.Type = &tlsv3.Secret_ValidationContext{ValidationContext: &tlsv3.CertificateValidationContext{TrustedCa: inline(pkitest.PEM(ca.Cert))}}
		}
		l = append(l, s)
	}
	return l
}

func adsCluster(s *xdstest.Server) string {
	return fmt.Sprintf("  - {name: xds, type: STATIC, connect_timeout: 1s, load_assignment: {cluster_name: xds, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: %d}}}}]}]}}\n", s.Port())
}

// strip takes out the extensions that are not there, so that nothing hides behind them.
func strip(m protoreflect.Message) {
	x := all.Extensions()
	var walk func(m protoreflect.Message)
	walk = func(m protoreflect.Message) {
		if a, ok := m.Interface().(*anypb.Any); ok {
			if inner, _, err := protofile.Unpack(a); err == nil {
				walk(inner.ProtoReflect())
				if b, err := anypb.New(inner); err == nil {
					a.TypeUrl, a.Value = b.TypeUrl, b.Value
				}
			}
			return
		}
		if f, ok := m.Interface().(*accesslogv3.AccessLog); ok && f.GetFilter().GetExtensionFilter() != nil && !x.LogFilter.Has(f.GetFilter().GetExtensionFilter().GetTypedConfig()) {
			f.Filter = nil
		}
		m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
			switch {
			case f.IsMap():
				if f.MapValue().Message() != nil {
					var gone []protoreflect.MapKey
					v.Map().Range(func(k protoreflect.MapKey, e protoreflect.Value) bool {
						if a, ok := e.Message().Interface().(*anypb.Any); ok && f.Name() == "typed_per_filter_config" && !x.PerRoute.Has(a) {
							gone = append(gone, k)
							return true
						}
						walk(e.Message())
						return true
					})
					for _, k := range gone {
						v.Map().Clear(k)
					}
				}
			case f.Message() == nil:
			case f.IsList():
				l, n := v.List(), 0
				for i := range l.Len() {
					e := l.Get(i).Message()
					var a *anypb.Any
					if c, ok := e.Interface().(interface{ GetTypedConfig() *anypb.Any }); ok {
						a = c.GetTypedConfig()
					}
					switch f.Message().FullName() {
					case "envoy.config.listener.v3.Filter", "envoy.config.cluster.v3.Filter":
						if !x.Network.Has(a) {
							continue
						}
					case "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter":
						if a != nil && !x.HTTP.Has(a) || a == nil {
							continue
						}
					case "envoy.config.accesslog.v3.AccessLog":
						if !x.Log.Has(a) {
							continue
						}
					case "envoy.config.listener.v3.ListenerFilter":
						if !x.Listener.Has(a) {
							continue
						}
					}
					walk(e)
					l.Set(n, l.Get(i))
					n++
				}
				l.Truncate(n)
			default:
				walk(v.Message())
			}
			return true
		})
	}
	walk(m)
}
