package format

import (
	"net"
	"strconv"
	"time"

	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// upstreamCommands are the operators that read what is known of the last attempt, or of all of them.
func upstreamCommands() map[string]command {
	return map[string]command{
		"UPSTREAM_PROTOCOL":                           text(func(s *stream.Stream) string { return s.Info.Upstream.Protocol.String() }),
		"UPSTREAM_HOST":                               appending(func(b []byte, s *stream.Stream) ([]byte, bool) { return appendAddress(b, &s.Info.Upstream.Host) }),
		"UPSTREAM_HOST_NAME":                          appending(func(b []byte, s *stream.Stream) ([]byte, bool) { return appendHostName(b, s, false) }),
		"UPSTREAM_HOST_NAME_WITHOUT_PORT":             appending(func(b []byte, s *stream.Stream) ([]byte, bool) { return appendHostName(b, s, true) }),
		"UPSTREAM_CLUSTER":                            text(observedCluster),
		"UPSTREAM_CLUSTER_RAW":                        text(func(s *stream.Stream) string { return s.Info.Upstream.Cluster }),
		"UPSTREAM_CONNECTION_ID":                      number(func(s *stream.Stream) int64 { return int64(s.Info.Upstream.ConnID) }),
		"UPSTREAM_REQUEST_ATTEMPT_COUNT":              number(func(s *stream.Stream) int64 { return int64(s.Info.Upstream.Attempts) }),
		"UPSTREAM_TRANSPORT_FAILURE_REASON":           text(func(s *stream.Stream) string { return underscores(s.Info.Upstream.Failure) }),
		"UPSTREAM_SERVER_NAME":                        text(func(s *stream.Stream) string { return s.Info.Upstream.ServerName }),
		"UPSTREAM_LOCAL_CLOSE_REASON":                 text(func(s *stream.Stream) string { return s.Info.Upstream.LocalClose }),
		"UPSTREAM_DETECTED_CLOSE_TYPE":                text(upstreamCloseType),
		"UPSTREAM_CONNECTION_POOL_READY_DURATION":     optional(poolReady),
		"UPSTREAM_WIRE_BYTES_RECEIVED":                number(func(s *stream.Stream) int64 { return s.Info.Upstream.BytesIn }),
		"UPSTREAM_WIRE_BYTES_SENT":                    number(func(s *stream.Stream) int64 { return s.Info.Upstream.BytesOut }),
		"UPSTREAM_HEADER_BYTES_RECEIVED":              number(upstreamHeaderIn),
		"UPSTREAM_HEADER_BYTES_SENT":                  number(upstreamHeaderOut),
		"UPSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED": number(upstreamHeaderIn),
		"UPSTREAM_DECOMPRESSED_HEADER_BYTES_SENT":     number(upstreamHeaderOut),
		"UPSTREAM_HOSTS_ATTEMPTED":                    tried(func(b []byte, t *stream.Try) []byte { b, _ = appendAddress(b, &t.Host); return b }),
		"UPSTREAM_HOSTS_ATTEMPTED_WITHOUT_PORT":       tried(func(b []byte, t *stream.Try) []byte { return appendName(b, "", &t.Host, true) }),
		"UPSTREAM_HOST_NAMES_ATTEMPTED":               tried(func(b []byte, t *stream.Try) []byte { return appendName(b, t.Name, &t.Host, false) }),
		"UPSTREAM_HOST_NAMES_ATTEMPTED_WITHOUT_PORT":  tried(func(b []byte, t *stream.Try) []byte { return appendName(b, t.Name, &t.Host, true) }),
		"UPSTREAM_CONNECTION_IDS_ATTEMPTED":           tried(func(b []byte, t *stream.Try) []byte { return strconv.AppendUint(b, t.ConnID, 10) }),
	}
}

func upstreamHeaderIn(s *stream.Stream) int64  { return s.Info.Upstream.HeaderIn }
func upstreamHeaderOut(s *stream.Stream) int64 { return s.Info.Upstream.HeaderOut }

func observedCluster(s *stream.Stream) string {
	if u := &s.Info.Upstream; u.ClusterAlt != "" {
		return u.ClusterAlt
	}
	return s.Info.Upstream.Cluster
}

// has says whether there is an address at all.
func has(a *stream.Address) bool { return a.Path != "" || a.IsValid() }

func upstreamCloseType(s *stream.Stream) string {
	if u := &s.Info.Upstream; has(&u.Host) {
		return closeType(u.CloseType)
	}
	return ""
}

func poolReady(s *stream.Stream) (int64, bool) {
	u := &s.Info.Upstream
	return int64(u.Ready-u.Start) / int64(time.Millisecond), u.Ready != 0 && u.Start != 0
}

func appendHostName(b []byte, s *stream.Stream, cut bool) ([]byte, bool) {
	u := &s.Info.Upstream
	if !has(&u.Host) {
		return b, false
	}
	return appendName(b, u.HostName, &u.Host, cut), true
}

// appendName appends the name of a host, or its address if it has none; cut takes the port off.
func appendName(b []byte, name string, a *stream.Address, cut bool) []byte {
	switch {
	case name != "" && cut:
		if host, _, err := net.SplitHostPort(name); err == nil {
			name = host
		}
		return append(b, name...)
	case name != "":
		return append(b, name...)
	case cut && a.IsValid():
		return a.Addr().AppendTo(b)
	}
	b, _ = appendAddress(b, a)
	return b
}

// tried is a list over all hosts that were connected to. Upstream.Tried may be left out by a stream that had only one.
func tried(one func(b []byte, t *stream.Try) []byte) command {
	return appending(func(b []byte, s *stream.Stream) ([]byte, bool) {
		u := &s.Info.Upstream
		if len(u.Tried) == 0 {
			if !has(&u.Local) {
				return b, false
			}
			t := stream.Try{Host: u.Host, Name: u.HostName, ConnID: u.ConnID}
			return one(b, &t), true
		}
		for i := range u.Tried {
			if i > 0 {
				b = append(b, ',')
			}
			b = one(b, &u.Tried[i])
		}
		return b, true
	})
}
