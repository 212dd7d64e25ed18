package cluster

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rawv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/raw_buffer/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/outrigger-proxy/outrigger/cluster/pool"
	"github.com/outrigger-proxy/outrigger/internal/extension"
	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/stats"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// TransportSocket turns a connection into a stream of bytes: as it is, or with TLS.
type TransportSocket interface {
	// Client shakes hands as the client; it runs on a fiber whose limit is the connect timeout, and notes in i what it has found.
	// On error the connection is closed by the caller.
	Client(w *fiber.Worker, c fiber.Conn, i *pool.Info) (fiber.Conn, error)
}

// HeaderSocket is a TransportSocket that tells hosts of the downstream connection: connections are not shared between streams of which
// it tells different things.
type HeaderSocket interface {
	Header(t pool.Transport, downstream *stream.Conn) pool.Transport
}

// HostSocket is a TransportSocket that the metadata of a host may change. What it returns is compared with ==.
type HostSocket interface {
	ForHost(typed map[string]*anypb.Any) TransportSocket
}

// TransportEnv is what transport sockets are built for.
type TransportEnv struct {
	*Env

	Scope   stats.Scope // cluster.<name>.
	Cluster string
	// Warm is called by a factory that cannot serve yet, such as one that waits for its secrets: the cluster takes no part before ready
	// is called, on the control loop.
	Warm func() (ready func())
	// Inner builds the transport socket that another one wraps; errors are about it.
	Inner func(t *corev3.TransportSocket) (TransportSocket, error)
	Name  string // of the transport socket, in the configuration
}

// ExtensionName is the name in errors.
func (e TransportEnv) ExtensionName() string { return e.Name }

// Extensions are the tables of what a cluster's configuration may name.
type Extensions struct {
	TransportSockets extension.Registry[TransportSocket, TransportEnv]
}

// Builtin returns the extensions that need no other package.
func Builtin() *Extensions {
	x := &Extensions{}
	extension.Add(&x.TransportSockets, NewRawBuffer)
	return x
}

// rawBuffer is envoy.transport_sockets.raw_buffer: bytes as they are.
type rawBuffer struct{}

// NewRawBuffer builds it.
func NewRawBuffer(*rawv3.RawBuffer, TransportEnv) (TransportSocket, error) { return rawBuffer{}, nil }

func (rawBuffer) Client(_ *fiber.Worker, c fiber.Conn, _ *pool.Info) (fiber.Conn, error) {
	return c, nil
}

func (m *Manager) transport(c *Cluster, t *corev3.TransportSocket) (TransportSocket, error) {
	if t == nil {
		return rawBuffer{}, nil
	}
	return m.env.Extensions.TransportSockets.Build(t.GetTypedConfig(), TransportEnv{
		Env: &m.env, Scope: c.Codes, Cluster: c.Name, Name: t.GetName(), Warm: c.wait,
		Inner: func(t *corev3.TransportSocket) (TransportSocket, error) { return m.transport(c, t) },
	})
}
