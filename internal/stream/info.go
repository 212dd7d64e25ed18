package stream

import (
	"time"

	"github.com/outrigger-proxy/outrigger/internal/fiber"
)

// Protocol is the version of HTTP that a stream speaks.
type Protocol uint8

// The protocols; NoProtocol is a plain TCP connection.
const (
	NoProtocol Protocol = iota
	HTTP10
	HTTP11
	HTTP2
)

var protocolNames = [...]string{"", "HTTP/1.0", "HTTP/1.1", "HTTP/2"}

// String returns the name as an access log prints it; empty for NoProtocol.
func (p Protocol) String() string { return protocolNames[p] }

// Address is where one end of a connection is: an IP address and port, or the path of a unix socket.
type Address = fiber.Address

// Metadata is the dynamic metadata of a stream or the static metadata of a resource: filter namespace -> key -> value, the
// values being what encoding/json would decode (envoy.config.core.v3.Metadata).
type Metadata map[string]map[string]any

// Set stores value under namespace and key, making what is missing.
func (m *Metadata) Set(namespace, key string, value any) {
	if *m == nil {
		*m = Metadata{}
	}
	ns := (*m)[namespace]
	if ns == nil {
		ns = map[string]any{}
		(*m)[namespace] = ns
	}
	ns[key] = value
}

// FilterState holds objects that filters share along a connection or a stream (Envoy: FilterState).
// An object that has a String method is printed by %FILTER_STATE(key:PLAIN)%, one that encoding/json knows by :TYPED.
type FilterState map[string]any

// TLSInfo is what is known of the peer of a TLS connection; nil where a connection is plain.
type TLSInfo interface {
	Version() string     // "TLSv1.3"
	Cipher() string      // IANA or OpenSSL name as Envoy prints it
	ServerName() string  // SNI
	ALPN() string        // negotiated protocol
	PeerSubject() string // RFC 2253; empty without a peer certificate
	PeerURISANs() []string
	PeerDNSSANs() []string
	LocalURISANs() []string
	LocalSubject() string
	PeerFingerprint() string // SHA-256 of the peer certificate in hex
	PeerValidated() bool     // the peer presented a certificate, and it is trusted
	// Text is the rest, of which mostly only access logs want to know; empty where there is none.
	Text(t TLSText) string
	// PeerValidity is from when until when the peer certificate is valid; zero without one.
	PeerValidity() (from, until time.Time)
}

// TLSText names what TLSInfo.Text tells. Lists are joined by commas.
type TLSText uint8

// The texts. Fingerprints are in hex, certificates are PEM in URL encoding.
const (
	TLSSessionID TLSText = iota
	TLSGroup
	PeerIssuer
	PeerSerial
	PeerCertificate
	PeerCertificateChain // all of them, one after the other
	PeerFingerprint1     // SHA-1
	PeerIPSANs
	PeerEmailSANs
	PeerOtherNameSANs
	PeerIssuerFingerprint256 // of the verified issuer
	PeerIssuerSerial
	PeerChainFingerprints256
	PeerChainFingerprints1
	PeerChainSerials
	LocalDNSSANs
	LocalIPSANs
	LocalEmailSANs
	LocalOtherNameSANs
)

// Conn is what is known of a downstream connection; it is shared by all of its streams.
type Conn struct {
	ID                 uint64
	Start              fiber.Time
	Local, Remote      Address // after original-destination, PROXY protocol or x-forwarded-for have had their say
	DirectLocal        Address // of the socket itself
	DirectRemote       Address
	LocalRestored      bool     // Local is where the client wanted to go, as a listener filter found it: use_original_dst may hand the connection over
	ServerName         string   // SNI that the client asked for (by the tls_inspector or the handshake)
	ALPN               []string // that the client offered
	TLS                TLSInfo
	FilterChain        string // name of the filter chain
	TransportFailure   string // why the transport socket failed, in words
	TerminationDetails string // why we ended the connection, in Envoy's words
	Metadata           Metadata
	State              FilterState // lives as long as the connection
	JA3, JA4           string
	BytesIn, BytesOut  int64 // on the wire, for TCP logs
	Listener           string
	ListenerMetadata   Metadata
	ChainMetadata      Metadata   // of the filter chain
	Handshake          fiber.Time // the TLS handshake was done
	End                fiber.Time // the connection was closed
	LocalClose         string     // why we closed it, in Envoy's words
	CloseType          string     // how the peer closed it: Normal (also if empty), LocalReset, RemoteReset
}

// Upstream is what is known of the last attempt at an upstream host.
type Upstream struct {
	Cluster             string // name
	ClusterAlt          string // observability name (alt_stat_name or name)
	Host                Address
	HostName            string // endpoint hostname
	Local               Address
	TLS                 TLSInfo
	Protocol            Protocol
	Attempts            int
	Failure             string // transport failure in words
	HostMetadata        Metadata
	ClusterMetadata     Metadata
	Start               fiber.Time // the attempt began
	Connected           fiber.Time // the connection was there (its Start when it was pooled)
	ConnStart           fiber.Time // of the connect; zero when pooled
	FirstTx, LastTx     fiber.Time // first and last byte of the request went out
	FirstRx, LastRx     fiber.Time // first and last byte of the response came in
	BytesOut, BytesIn   int64      // on the wire
	HeaderOut, HeaderIn int64      // of the heads, on the wire
	ConnID              uint64
	Remote              Address    // of the connection, where that is not Host
	Handshake           fiber.Time // the TLS handshake was done
	FirstRxBody         fiber.Time // first byte of the response's body came in
	Ready               fiber.Time // the pool lent the connection
	ServerName          string     // SNI that we sent
	State               FilterState
	LocalClose          string // why we closed the connection, in Envoy's words
	CloseType           string // how the host closed it: Normal (also if empty), LocalReset, RemoteReset
	Tried               []Try  // hosts that were connected to, in order; may be nil where there was only this one
}

// Remember notes the host of the attempt, if it came to a connection, among those that were tried.
func (u *Upstream) Remember() {
	if u.Local.IsValid() || u.Local.Path != "" {
		u.Tried = append(u.Tried, Try{Host: u.Host, Name: u.HostName, ConnID: u.ConnID})
	}
}

// Try is a host that an attempt was made at.
type Try struct {
	Host   Address
	Name   string // endpoint hostname
	ConnID uint64
}

// Info is what is known of a stream, or of a TCP connection that is proxied: access logs, the substitution formatter, policies
// and statistics read it (Envoy: StreamInfo). A zero time says that it has not come to that.
type Info struct {
	Conn     *Conn
	Protocol Protocol
	Upstream Upstream

	Start                   fiber.Time // first byte of the head
	StartWall               time.Time
	RequestEnd              fiber.Time // last byte of the request came in
	ResponseStart           fiber.Time // first byte of the response went out
	ResponseEnd             fiber.Time // last byte of the response went out
	End                     fiber.Time
	BytesIn, BytesOut       int64 // of the bodies
	HeaderIn, HeaderOut     int64 // of the heads, on the wire
	WireIn, WireOut         int64
	Status                  int    // 0: no response was sent
	Details                 string // response code details
	Flags                   Flags
	Route, VirtualHost      string // names
	VirtualCluster          string
	RouteMetadata           Metadata
	RequestID               string
	Method, Path, Authority string // as they came; Path after normalisation
	Scheme                  string
	Metadata                Metadata
	State                   FilterState // lives as long as the stream
	ConnectionTermination   string
	HealthCheck             bool // answered by the health_check filter: logs may leave it out
	Internal                bool // request from inside (x-envoy-internal)

	LogType             LogType // set by whoever calls the access loggers
	LocalReplyBody      string  // of the local reply that is being made
	CustomFlags         string  // set by filters, joined by commas
	TraceID, SpanID     string
	Traced              bool // the request is traced: sampled, or forced by the service or the client
	VirtualHostMetadata Metadata
	Times               map[string]fiber.Time // named points in time for %COMMON_DURATION%
}

// LogType says at which point of a stream or connection it is logged (envoy.data.accesslog.v3.AccessLogType; same numbers).
type LogType uint8

// The log types.
const (
	LogNotSet LogType = iota
	LogTCPUpstreamConnected
	LogTCPPeriodic
	LogTCPConnectionEnd
	LogDownstreamStart
	LogDownstreamPeriodic
	LogDownstreamEnd
	LogUpstreamPoolReady
	LogUpstreamPeriodic
	LogUpstreamEnd
	LogDownstreamTunnelSuccessfullyEstablished
	LogUDPTunnelUpstreamConnected
	LogUDPPeriodic
	LogUDPSessionEnd
	LogTCPConnectionStart
)

var logTypeNames = [...]string{
	"NotSet", "TcpUpstreamConnected", "TcpPeriodic", "TcpConnectionEnd", "DownstreamStart",
	"DownstreamPeriodic", "DownstreamEnd", "UpstreamPoolReady", "UpstreamPeriodic", "UpstreamEnd",
	"DownstreamTunnelSuccessfullyEstablished", "UdpTunnelUpstreamConnected", "UdpPeriodic", "UdpSessionEnd", "TcpConnectionStart",
}

// String returns the name as %ACCESS_LOG_TYPE% prints it.
func (t LogType) String() string {
	if int(t) < len(logTypeNames) {
		return logTypeNames[t]
	}
	return logTypeNames[LogNotSet]
}
