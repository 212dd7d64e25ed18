package xdsclient

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
)

// server is a transport: a gRPC server that a GrpcService names.
type server struct {
	name      string // of the cluster, or the target
	authority string
	metadata  metadata.MD
	most      int // size of a message
	dial      func(ctx context.Context) (net.Conn, error)
}

// service reads the first of the services, as Envoy does, and how it is to be tried again.
func (c *Client) service(list []*corev3.GrpcService) (*server, *corev3.RetryPolicy, error) {
	switch {
	case len(list) == 0:
		return nil, nil, &fieldError{"grpc_services", "API configs must have either a gRPC service or a cluster name defined"}
	case len(list) > 1:
		return nil, nil, &fieldError{"grpc_services", "a second server to fail over to is not supported"}
	}
	s, retry, err := c.oneService(list[0])
	if err != nil {
		return nil, nil, fmt.Errorf("grpc_services[0].%w", err)
	}
	return s, retry, nil
}

func (c *Client) oneService(p *corev3.GrpcService) (*server, *corev3.RetryPolicy, error) {
	s := &server{metadata: metadata.MD{}, most: math.MaxInt32}
	for i, h := range p.GetInitialMetadata() {
		if strings.Contains(h.GetValue(), "%") && !strings.Contains(h.GetValue(), "%%") {
			return nil, nil, fmt.Errorf("initial_metadata[%d].value: operators are not supported here", i)
		}
		s.metadata.Append(strings.ToLower(h.GetKey()), strings.ReplaceAll(h.GetValue(), "%%", "%")+string(h.GetRawValue()))
	}
	switch t := p.GetTargetSpecifier().(type) {
	case *corev3.GrpcService_EnvoyGrpc_:
		err := c.envoyService(s, t.EnvoyGrpc)
		retry := p.GetRetryPolicy()
		if retry == nil {
			retry = t.EnvoyGrpc.GetRetryPolicy()
		}
		return s, retry, err
	case *corev3.GrpcService_GoogleGrpc_:
		if err := googleService(s, t.GoogleGrpc); err != nil {
			return nil, nil, fmt.Errorf("google_grpc.%w", err)
		}
		return s, p.GetRetryPolicy(), nil
	}
	return nil, nil, errors.New("target_specifier: is required")
}

func (c *Client) envoyService(s *server, p *corev3.GrpcService_EnvoyGrpc) error {
	if err := c.HasCluster(p.GetClusterName()); err != nil {
		return fmt.Errorf("envoy_grpc.cluster_name: %w", err)
	}
	s.name, s.authority = p.GetClusterName(), p.GetAuthority()
	if s.authority == "" {
		s.authority = s.name
	}
	if n := p.GetMaxReceiveMessageLength(); n != nil {
		s.most = int(n.GetValue())
	}
	s.dial = func(ctx context.Context) (net.Conn, error) { return c.Dial(ctx, s.name) }
	return nil
}

// googleService reads what of GoogleGrpc has a meaning without Google's library.
func googleService(s *server, p *corev3.GrpcService_GoogleGrpc) error {
	switch {
	case len(p.GetChannelCredentialsPlugin())+len(p.GetCallCredentials())+len(p.GetCallCredentialsPlugin()) > 0:
		return errors.New("call_credentials: are not supported")
	case p.GetCredentialsFactoryName() != "" || p.GetConfig() != nil:
		return fmt.Errorf("credentials_factory_name: unknown google grpc credentials factory: %s", p.GetCredentialsFactoryName())
	}
	network, address := target(p.GetTargetUri())
	host, _, err := net.SplitHostPort(address)
	if network == "tcp" && err != nil {
		return fmt.Errorf("target_uri: %w", err)
	}
	s.name, s.authority = p.GetTargetUri(), address
	if network == "unix" {
		host, s.authority = "localhost", "localhost"
	}
	secure, err := channelCredentials(p.GetChannelCredentials(), host)
	if err != nil {
		return fmt.Errorf("channel_credentials.%w", err)
	}
	s.dial = func(ctx context.Context) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, network, address)
		if err != nil || secure == nil {
			return c, err
		}
		t := tls.Client(c, secure)
		if err := t.HandshakeContext(ctx); err != nil {
			_ = c.Close()
			return nil, err
		}
		return t, nil
	}
	return nil
}

// target reads a name in gRPC's syntax: dns:///host:port, ipv4:address:port, unix:path or host:port.
func target(uri string) (network, address string) {
	if path, ok := strings.CutPrefix(uri, "unix:"); ok {
		return "unix", strings.TrimPrefix(path, "//")
	}
	for _, scheme := range []string{"dns:///", "dns:", "ipv4:", "ipv6:"} {
		if rest, ok := strings.CutPrefix(uri, scheme); ok {
			return "tcp", rest
		}
	}
	return "tcp", uri
}

// channelCredentials returns nil for a connection in the clear.
func channelCredentials(p *corev3.GrpcService_GoogleGrpc_ChannelCredentials, host string) (*tls.Config, error) {
	switch k := p.GetCredentialSpecifier().(type) {
	case nil, *corev3.GrpcService_GoogleGrpc_ChannelCredentials_LocalCredentials:
		return nil, nil
	case *corev3.GrpcService_GoogleGrpc_ChannelCredentials_GoogleDefault:
		return nil, errors.New("google_default: is not supported")
	case *corev3.GrpcService_GoogleGrpc_ChannelCredentials_SslCredentials:
		c, err := sslCredentials(k.SslCredentials, host)
		if err != nil {
			return nil, fmt.Errorf("ssl_credentials.%w", err)
		}
		return c, nil
	}
	return nil, errors.New("credential_specifier: is not known")
}

func sslCredentials(p *corev3.GrpcService_GoogleGrpc_SslCredentials, host string) (*tls.Config, error) {
	c := &tls.Config{ServerName: host, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS12}
	roots, err := material(p.GetRootCerts())
	if err != nil {
		return nil, fmt.Errorf("root_certs: %w", err)
	}
	if roots != nil {
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(roots) {
			return nil, errors.New("root_certs: there is no certificate in it")
		}
	}
	key, err := material(p.GetPrivateKey())
	if err != nil {
		return nil, fmt.Errorf("private_key: %w", err)
	}
	chain, err := material(p.GetCertChain())
	if err != nil || key == nil || chain == nil {
		return c, err
	}
	pair, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return nil, fmt.Errorf("cert_chain: %w", err)
	}
	c.Certificates = []tls.Certificate{pair}
	return c, nil
}

func material(s *corev3.DataSource) ([]byte, error) {
	switch v := s.GetSpecifier().(type) {
	case *corev3.DataSource_Filename:
		return os.ReadFile(v.Filename)
	case *corev3.DataSource_InlineBytes:
		return v.InlineBytes, nil
	case *corev3.DataSource_InlineString:
		return []byte(v.InlineString), nil
	case *corev3.DataSource_EnvironmentVariable:
		return []byte(os.Getenv(v.EnvironmentVariable)), nil
	}
	return nil, nil
}

// window is how much a server may send before it is read: more than a usual response, so that one round trip brings it.
const window = 1 << 20

// open connects, and begins a stream. The connection ends with it.
func (s *server) open(ctx context.Context, method string) (conn, error) {
	c, err := grpc.NewClient("passthrough:///"+s.name, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority(s.authority),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return s.dial(ctx) }), grpc.WithNoProxy(),
		grpc.WithDisableServiceConfig(), grpc.WithDisableRetry(), grpc.WithDisableHealthCheck(), grpc.WithIdleTimeout(0),
		grpc.WithInitialWindowSize(window), grpc.WithInitialConnWindowSize(window), grpc.WithReadBufferSize(0), grpc.WithSharedWriteBuffer(true))
	if err != nil {
		return nil, err
	}
	ctx = metadata.NewOutgoingContext(ctx, s.metadata)
	d := &grpc.StreamDesc{StreamName: method, ServerStreams: true, ClientStreams: true}
	st, err := c.NewStream(ctx, d, method, grpc.MaxCallRecvMsgSize(s.most))
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	return &grpcConn{c, st}, nil
}

type grpcConn struct {
	client *grpc.ClientConn
	stream grpc.ClientStream
}

func (c *grpcConn) Send(m proto.Message) error { return c.stream.SendMsg(m) }
func (c *grpcConn) Recv(m proto.Message) error { return c.stream.RecvMsg(m) }
func (c *grpcConn) Close()                     { _ = c.client.Close() }
