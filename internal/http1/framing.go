package http1

import (
	"math"
	"strings"

	"github.com/outrigger-proxy/outrigger/internal/header"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// framing is what a head says about the body behind it and about the connection.
type framing struct {
	length     int64 // -1: not said
	encoded    bool  // there is a Transfer-Encoding
	chunked    bool  // and it is "chunked", once
	connection bool  // there is a Connection
	te         bool
	upgrade    bool // there is an Upgrade
	proxyClose bool // "proxy-connection: close"
	hasHost    bool
	host       string
	protocol   stream.Protocol
}

// special are the fields that note takes in.
var special = func() (t [256]bool) {
	for _, id := range []header.ID{
		header.Host, header.ContentLength, header.TransferEncoding, header.Connection, header.KeepAlive, header.ProxyConnection,
		header.Upgrade, header.TE,
	} {
		t[id] = true
	}
	return t
}()

// note takes in a field that belongs to the codec. A value from which a CR was dropped frames nothing: another parser may
// have read it otherwise.
func (p *parser) note(id header.ID, name, value []byte, stray bool) error {
	f := &p.frame
	switch id {
	case header.Host:
		if !p.h.Once(header.Host) {
			break // a response may have one
		}
		if f.hasHost {
			f.host = p.append(f.host, value)
		} else {
			f.host, f.hasHost = str(value), true
		}
		return nil
	case header.ContentLength:
		n, ok := number(value)
		if !ok || stray || f.length >= 0 {
			return ErrProtocol
		}
		f.length = n
	case header.TransferEncoding:
		if stray {
			return ErrProtocol
		}
		f.chunked = !f.encoded && strings.EqualFold(str(value), "chunked")
		f.encoded = true
		return nil
	case header.KeepAlive:
		return nil
	case header.ProxyConnection:
		f.proxyClose = f.proxyClose || hasToken(str(value), "close")
		return nil
	case header.Connection:
		f.connection = true
	case header.Upgrade:
		f.upgrade = true
	case header.TE:
		f.te = true
	}
	p.add(id, name, value)
	return nil
}

func number(b []byte) (int64, bool) {
	if len(b) == 0 {
		return 0, false
	}
	n := int64(0)
	for _, c := range b {
		d := int64(c) - '0'
		if d < 0 || d > 9 || n > (math.MaxInt64-d)/10 {
			return 0, false
		}
		n = n*10 + d
	}
	return n, true
}

// settleRequest judges the head as a whole, in Envoy's order.
func (c *Conn) settleRequest(q *stream.Request) error {
	f := &c.parse.frame
	if err := c.settleLength(&q.Header); err != nil {
		return err
	}
	c.HasHost, q.Authority = f.hasHost, f.host
	c.Close = c.closes(&q.Header)
	upgrade := f.upgrade && f.connection && c.upgrades(&q.Header)
	if c.Upgrade = upgrade; q.Method == "CONNECT" {
		if f.length > 0 {
			return ErrBodyDisallowed
		}
		q.Header.RemoveID(header.ContentLength)
		c.Upgrade = true
	}
	if f.encoded && (!f.chunked || q.Method == "CONNECT") {
		return ErrTransferEncoding
	}
	if f.connection && !c.Upgrade {
		if err := c.nominated(q); err != nil {
			return err
		}
	}
	if err := c.target(q); err != nil {
		return err
	}
	if !all(q.Authority, inAuthority) {
		return ErrAuthority
	}
	if !upgrade {
		c.hopByHop(&q.Header)
	}
	return c.settleVersion(q)
}

func (c *Conn) settleVersion(q *stream.Request) error {
	if c.Protocol == stream.HTTP11 {
		return nil
	}
	if !c.parse.o.AcceptHTTP10 {
		c.Protocol = stream.HTTP11 // that of the refusal
		return ErrVersion
	}
	if !c.HasHost && c.parse.o.DefaultHost != "" {
		c.HasHost, q.Authority = true, c.parse.o.DefaultHost
	}
	return nil
}

func (c *Conn) settleLength(h *header.Map) error {
	f := &c.parse.frame
	if !f.encoded || f.length < 0 {
		return nil
	}
	if !c.parse.o.ChunkedLength {
		return ErrChunkedLength
	}
	f.length = -1
	h.RemoveID(header.ContentLength)
	return nil
}

// closes says whether the connection ends with this message: HTTP/1.0 keeps it only when asked to, and never with a
// Transfer-Encoding, which others do not see there (RFC 9112, 6.1).
func (c *Conn) closes(h *header.Map) bool {
	f := &c.parse.frame
	if c.Protocol == stream.HTTP11 {
		if f.connection {
			v, _ := h.Find(header.Connection)
			return f.proxyClose || hasToken(v, "close")
		}
		return f.proxyClose
	}
	v, _ := h.Find(header.Connection)
	return f.encoded || !hasToken(v, "keep-alive")
}

// upgrades says whether the head has a say in an upgrade that is taken up. One that is not is taken out of the head.
func (c *Conn) upgrades(h *header.Map) bool {
	to, _ := h.Find(header.Upgrade)
	conn, _ := h.Find(header.Connection)
	if to == "" || !hasToken(conn, "upgrade") {
		return false
	}
	h2c := strings.EqualFold(to, "h2c")
	if h2c {
		h.RemoveID(header.HTTP2Settings)
	}
	return !h2c && (c.parse.o.IgnoreUpgrade == nil || !c.parse.o.IgnoreUpgrade(to))
}

// hopByHop takes out the fields that were for this connection only, and what of TE is not about trailers.
func (c *Conn) hopByHop(h *header.Map) {
	f := &c.parse.frame
	if f.connection {
		h.RemoveID(header.Connection)
	}
	if f.upgrade {
		h.RemoveID(header.Upgrade)
	}
	if f.te && h.Once(header.TE) {
		v, ok := h.Find(header.TE)
		switch {
		case !ok:
		case wantsTrailers(v):
			h.SetID(header.TE, "trailers")
		default:
			h.RemoveID(header.TE)
		}
	}
}

const (
	maxNominated = 10  // as in Envoy
	maxTE        = 256 // as in Envoy
)

// nominated takes out the fields that Connection names (RFC 9110, 7.6.1), but for those whose loss would hide where the request
// came from.
func (c *Conn) nominated(q *stream.Request) error {
	v, _ := q.Header.Find(header.Connection)
	for n := 0; v != ""; {
		var t string
		t, v, _ = strings.Cut(v, ",")
		if t == "" {
			continue
		}
		if n++; n >= maxNominated {
			return ErrConnectionHeader
		}
		switch t = strings.Trim(t, " \t"); {
		case t == "", foldIn(t, "close", "http2-settings", "keep-alive", "upgrade", "connection"):
		case t[0] == ':', foldIn(t, "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"):
			return ErrConnectionHeader
		case strings.EqualFold(t, "te"):
			if te, _ := q.Header.Find(header.TE); len(te) >= maxTE {
				return ErrConnectionHeader
			}
		case strings.EqualFold(t, "host"):
			c.HasHost, q.Authority = false, ""
		default:
			q.Header.RemoveFunc(func(f *header.Field) bool { return strings.EqualFold(f.Name, t) })
		}
	}
	return nil
}

func foldIn(t string, names ...string) bool {
	for _, n := range names {
		if strings.EqualFold(t, n) {
			return true
		}
	}
	return false
}

// hasToken says whether a comma-separated list holds token, in any case.
func hasToken(list, token string) bool {
	for list != "" {
		var t string
		t, list, _ = strings.Cut(list, ",")
		if i := strings.IndexByte(t, ';'); i >= 0 {
			t = t[:i]
		}
		if strings.EqualFold(strings.Trim(t, " \t"), token) {
			return true
		}
	}
	return false
}

// wantsTrailers says whether "trailers" is one of a comma-separated list (TE).
func wantsTrailers(list string) bool {
	for item := range strings.SplitSeq(list, ",") {
		if strings.Trim(item, " \t") == "trailers" {
			return true
		}
	}
	return false
}

// settleResponse judges the head of a response to a request of kind k and finds its body (RFC 9112, 6.3).
func (c *Conn) settleResponse(r *stream.Response, k Kind) error {
	f, h := &c.parse.frame, &r.Header
	interim := r.Status < 200
	tunnel := k == Connect && r.Status/100 == 2
	if tunnel {
		f.encoded, f.chunked, f.length = false, false, 0
	}
	if err := c.settleLength(h); err != nil {
		return err
	}
	if interim || r.Status == 204 {
		if f.encoded {
			return ErrEncodingNotAllowed
		}
		if f.length > 0 {
			return ErrLengthNotAllowed
		}
		h.RemoveID(header.ContentLength)
	}
	if f.encoded && !f.chunked {
		return ErrTransferEncoding
	}
	c.Close = c.closes(h)
	c.CloseNotice = c.Close
	upgrade := k == Upgrading && r.Status == 101 && f.upgrade && f.connection && c.upgrades(h)
	c.Upgrade = upgrade || tunnel
	c.interim = interim && r.Status != 101
	if !upgrade {
		c.hopByHop(h)
	}
	switch {
	case c.Upgrade, c.interim, k == Head, r.Status == 204, r.Status == 304:
	case r.Status == 101:
		c.Close = true // nobody asked, and what follows is not HTTP
	case f.chunked || f.length > 0:
		c.body.start(f)
		r.Body = &c.body
	case f.length < 0:
		c.Close = true
		c.body.start(f)
		r.Body = &c.body
	}
	return nil
}
