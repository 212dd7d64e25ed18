package hcm

import (
	"errors"
	"io"
	"strings"
	"time"

	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/header"
	"github.com/outrigger-proxy/outrigger/internal/http2"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// mux is what a connection has beside when it speaks HTTP/2: each of its streams is an exchange on a fiber of its own.
type mux struct {
	// set at construction
	d *conn
	// owned by the worker
	h2    http2.Conn
	idle  fiber.Timer // no stream for too long
	life  fiber.Timer // max_connection_duration, then the grace period of drain_timeout
	ended uint64      // streams
	early uint64      // of them those that the client gave up at once
}

// speaksHTTP2 says whether a connection speaks HTTP/2 from its first byte.
func (m *Manager) speaksHTTP2(c *filter.Conn) bool {
	switch m.config.Load().codec.kind {
	case hcmv3.HttpConnectionManager_HTTP2:
		return true
	case hcmv3.HttpConnectionManager_AUTO:
		return c.Info.TLS != nil && c.Info.TLS.ALPN() == "h2"
	}
	return false
}

// preface says whether a head that was refused is the preface of HTTP/2 (RFC 9113, 3.4).
func (x *exchange) preface() bool {
	return x.cfg.codec.kind == hcmv3.HttpConnectionManager_AUTO && strings.HasPrefix(string(x.d.codec.Input()), "PRI * HTTP/2")
}

// count1 counts the connection as one of HTTP/1.
func (d *conn) count1() {
	d.counted = true
	d.m.stats.CxHTTP1Total.Inc()
	d.m.stats.CxHTTP1Active.Inc()
}

// multiplex makes the connection one of HTTP/2; first is what has been read of it. It does not wait.
func (d *conn) multiplex(first []byte) {
	st, w := d.m.stats, d.c.Worker
	st.CxHTTP2Total.Inc()
	st.CxHTTP2Active.Inc()
	cfg := d.m.config.Load()
	m := &mux{d: d}
	d.mux = m
	m.idle.Do, m.life.Do = m.idled, m.aged
	m.h2.Server(w, d.c.Conn, &cfg.http2, m, &d.m.shards[w.ID].http2, first)
	m.Changed()
	if d.ends != 0 {
		m.life.Set(w, d.ends)
	}
}

// Serve is one stream.
func (m *mux) Serve(s *http2.Stream) {
	d := m.d
	sh := &d.m.shards[d.c.Worker.ID]
	x := sh.take()
	x.m, x.d, x.cfg, x.f, x.h2 = d.m, d, d.m.config.Load(), d.c.Worker.Current(), s
	m.idle.Stop(d.c.Worker)
	protocol, err := s.ReadRequest(&x.Request)
	if x.Request.Method == "CONNECT" {
		x.Request.Body = nil // what comes belongs to the tunnel
	}
	if err != nil {
		x.forget()
	}
	x.begin()
	if err != nil {
		x.unread(err)
	} else {
		x.askFor(protocol)
		x.run(nil)
	}
	m.judge(&x.Info)
	x.end()
	x.h2 = nil
	sh.put(x)
}

// The runtime keys of Envoy's defence against clients that open streams in order to reset them.
const (
	prematureTotal = "overload.premature_reset_total_stream_count"
	prematureLife  = "overload.premature_reset_min_stream_lifetime_seconds"
)

// judge counts a stream, and ends a connection half of whose streams the client gives up before anything has come of them: once there
// were so many streams, or as soon as there are so many that good ones cannot outweigh them any more.
func (m *mux) judge(i *stream.Info) {
	d := m.d
	if m.ended++; i.Status != 0 {
		return
	}
	run := d.m.env.Runtime.Load()
	if lived := time.Duration(d.c.Worker.Now() - i.Start); uint64(lived/time.Second) > run.Uint(prematureLife, 1) {
		return
	}
	m.early++
	if 2*m.early < max(m.ended, run.Uint(prematureTotal, 500)) || d.phase != serving {
		return
	}
	d.phase = lingering
	d.m.stats.RqPrematureResets.Inc()
	m.h2.Abort(nil)
}

// unread is a stream whose head was refused, of which nobody knows more.
func (x *exchange) unread(err error) {
	x.m.stats.RqRxReset.Inc()
	x.Info.Flags, x.Info.Details = stream.DownstreamProtocolError, "http2.remote_protocol_error"
	if bad, ok := errors.AsType[*http2.Error](err); ok {
		x.Info.Details = bad.Details
		if bad.Code != http2.ProtocolError { // the stream alone was reset
			x.Info.Flags = stream.DownstreamRemoteReset
		}
	}
}

// askFor notes the upgrade that a CONNECT asks for: an extended one (RFC 8441) becomes that of HTTP/1.
func (x *exchange) askFor(protocol string) {
	q := &x.Request
	switch {
	case protocol != "":
		x.asked = strings.ToLower(protocol)
		q.Method = "GET"
		q.Header.SetID(header.Upgrade, protocol)
		q.Header.SetID(header.Connection, "upgrade")
	case q.Method == "CONNECT":
		x.asked = "connect"
	}
}

// Changed lets the connection rest, or go, when it has no stream.
func (m *mux) Changed() {
	d := m.d
	if m.h2.Active() > 0 {
		return
	}
	if d.phase == lingering || m.h2.PeerAway() {
		m.h2.Close()
		return
	}
	if t := d.m.config.Load().connection.idle; t > 0 {
		m.idle.Set(d.c.Worker, d.c.Worker.Now().Add(t))
	}
}

// idled runs when there was no stream for idle_timeout.
func (m *mux) idled() {
	if m.h2.Active() == 0 {
		m.d.m.stats.CxIdle.Inc()
		m.drain()
	}
}

// drain begins the end: the peer is told to send no more streams, and those under way to us are served for the grace period.
func (m *mux) drain() {
	d := m.d
	if d.phase != serving {
		return
	}
	d.drain(&d.m.config.Load().connection)
	m.h2.GoAway()
	m.life.Set(d.c.Worker, max(d.until, d.c.Worker.Now()+1))
}

// aged runs at max_connection_duration, and at the end of the grace period.
func (m *mux) aged() {
	d := m.d
	if d.phase == serving {
		d.m.stats.CxMaxDuration.Inc()
		m.drain()
		return
	}
	d.phase = lingering
	m.h2.GoAway()
	m.Changed()
}

// depart is filter.Conn.Drain: a connection without a stream closes.
func (m *mux) depart() {
	if m.h2.Active() == 0 && m.d.phase == serving && !m.d.c.Readable() {
		m.d.m.stats.CxDrainClose.Inc()
		m.d.phase = lingering
		m.h2.GoAway()
		m.h2.Close()
	}
}

// Closed counts the end of the connection.
func (m *mux) Closed(err error) {
	d := m.d
	w := d.c.Worker
	m.idle.Stop(w)
	m.life.Stop(w)
	if _, bad := errors.AsType[*http2.Error](err); bad {
		d.m.stats.CxProtocolError.Inc()
	}
	d.m.stats.CxHTTP2Active.Dec()
	d.closed(errors.Is(err, io.EOF))
}

// respond2 sends the response; status is what the books say of it.
func (x *exchange) respond2(status int) next {
	s, r := x.h2, &x.Response
	if x.Tunnel != nil {
		s.Hold()
		if r.Status == 101 {
			r.Status = 200
		}
	}
	x.m.charge(&x.Info, status)
	x.Start()
	err, done := s.Respond(r, x.Request.Method == "HEAD"), x.Tunnel != nil
	if err == nil && !done {
		done, err = s.Run(true)
	}
	i := &x.Info
	i.BytesOut, i.HeaderOut, i.WireOut, i.ResponseEnd = s.Sent, s.HeadOut, s.WireOut, x.d.c.Worker.Now()
	x.answered = true
	if !done || err != nil {
		return x.broken(err)
	}
	if x.Tunnel != nil {
		return x.weave()
	}
	return again
}

// abandoned2 is a client that has given up a stream, or gone.
func (x *exchange) abandoned2() next {
	var r *http2.Reset
	var bad *http2.Error
	flag, details := stream.DownstreamConnectionTermination, "downstream_remote_disconnect"
	switch {
	case errors.As(x.f.Err(), &bad):
		flag, details = stream.DownstreamProtocolError, bad.Details
	case errors.As(x.f.Err(), &r) && r.Remote:
		flag, details = stream.DownstreamRemoteReset, "http2.remote_reset"
	case r != nil:
		flag, details = stream.DownstreamProtocolError, "http2.remote_reset"
	}
	x.Info.Flags |= flag
	x.Info.Details = details
	x.Info.Status = 0
	return destroyed
}

// decideDrain decides whether the connection takes streams after this one.
func (x *exchange) decideDrain() {
	d, st := x.d, x.m.stats
	if most := x.cfg.connection.maxRequests; most > 0 && d.requests >= most && d.phase == serving {
		st.CxMaxRequests.Inc()
		d.mux.drain()
	}
	if l := d.m.env.Listener; l != nil && l.Drain.Closing() && d.phase == serving {
		st.CxDrainClose.Inc()
		d.mux.drain()
	}
	if x.Close {
		d.mux.drain()
	}
	if x.Tunnel == nil && !x.RequestComplete() && !x.h2.Ended() {
		st.RqRxReset.Inc()
		st.RqEarlyResponse.Inc()
	}
}
