package health

import (
	"encoding/binary"
	"errors"

	datacorev3 "github.com/envoyproxy/go-control-plane/envoy/data/core/v3"
	proxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/thrift_proxy/v3"
	thriftv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/health_checkers/thrift/v3"
)

// The parts of Thrift that a call without arguments and its answer are made of (thrift-binary-protocol.md, thrift-compact-protocol.md,
// HeaderFormat.md).
const (
	thriftVersion  = 0x80010000
	thriftCall     = 1
	thriftReply    = 2
	thriftStop     = 0
	compactID      = 0x82
	compactVersion = 1
	headerMagic    = 0x0fff
	headerCompact  = 2
)

// thrift says how calls are framed and written.
type thrift struct {
	framed, header bool
	compact, lax   bool
}

// parseThrift makes a check by a call (envoy.health_checkers.thrift).
func parseThrift(p *thriftv3.Thrift) (*custom, error) {
	var t thrift
	switch p.GetTransport() {
	case proxyv3.TransportType_FRAMED:
		t.framed = true
	case proxyv3.TransportType_HEADER:
		t.header = true
	case proxyv3.TransportType_UNFRAMED:
	default:
		return nil, errors.New("typed_config.transport: Unsupported transport or protocol in thrift health check configuration")
	}
	switch p.GetProtocol() {
	case proxyv3.ProtocolType_BINARY:
	case proxyv3.ProtocolType_LAX_BINARY:
		if t.lax = true; t.header {
			return nil, errors.New("typed_config.protocol: invalid header transport protocol binary/non-strict")
		}
	case proxyv3.ProtocolType_COMPACT:
		t.compact = true
	default:
		return nil, errors.New("typed_config.protocol: Unsupported transport or protocol in thrift health check configuration")
	}
	return &custom{kind: datacorev3.HealthCheckerType_THRIFT, request: t.frame(t.call(p.GetMethodName())), read: t.read}, nil
}

// call is a call of a method without arguments.
func (t thrift) call(method string) (b []byte) {
	switch {
	case t.compact:
		b = binary.AppendUvarint([]byte{compactID, thriftCall<<5 | compactVersion, 0}, uint64(len(method)))
		b = append(b, method...)
	case t.lax:
		b = binary.BigEndian.AppendUint32(nil, uint32(len(method)))
		b = append(append(b, method...), thriftCall, 0, 0, 0, 0)
	default:
		b = binary.BigEndian.AppendUint32(nil, thriftVersion|thriftCall)
		b = binary.BigEndian.AppendUint32(b, uint32(len(method)))
		b = append(append(b, method...), 0, 0, 0, 0)
	}
	return append(b, thriftStop)
}

func (t thrift) frame(m []byte) []byte {
	switch {
	case t.header:
		protocol := byte(0)
		if t.compact {
			protocol = headerCompact
		}
		head := []byte{headerMagic >> 8, headerMagic & 0xff, 0, 0, 0, 0, 0, 0, 0, 1, protocol, 0, 0, 0} // no flags, sequence 0, one word
		m = append(head, m...)
	case !t.framed:
		return m
	}
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(m))), m...)
}

// read says whether an answer is whole, and whether it says that the call has succeeded.
func (t thrift) read(b []byte) (whole, ok bool) {
	if t.framed || t.header {
		if len(b) < 4 || uint64(len(b)) < 4+uint64(binary.BigEndian.Uint32(b)) {
			return false, false
		}
		b = b[4 : 4+binary.BigEndian.Uint32(b)]
	}
	if t.header {
		if len(b) < 10 || binary.BigEndian.Uint16(b) != headerMagic || len(b) < 10+4*int(binary.BigEndian.Uint16(b[8:])) {
			return true, false
		}
		b = b[10+4*int(binary.BigEndian.Uint16(b[8:])):]
	}
	r := reader{b: b}
	ok = r.reply(t)
	return !r.short || t.framed || t.header, ok && !r.short
}

// reader takes bytes from b; short says that there were not enough.
type reader struct {
	b     []byte
	short bool
}

func (r *reader) take(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.short, r.b = true, nil
		return make([]byte, min(n, 8))
	}
	p := r.b[:n]
	r.b = r.b[n:]
	return p
}

func (r *reader) varint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.short, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

// reply reads a message and the head of the first field of its result: that is a reply, and the field is 0, or there is none.
func (r *reader) reply(t thrift) bool {
	if t.compact {
		head := r.take(2)
		r.varint() // sequence
		r.take(r.varint())
		if head[0] != compactID || head[1]>>5 != thriftReply {
			return false
		}
		field := r.take(1)[0]
		if field == thriftStop {
			return true
		}
		return field>>4 == 0 && r.varint() == 0
	}
	var kind byte
	if first := binary.BigEndian.Uint32(r.take(4)); first&0xffff0000 == thriftVersion {
		kind = byte(first)
		r.take(uint64(binary.BigEndian.Uint32(r.take(4))))
	} else {
		r.take(uint64(first))
		kind = r.take(1)[0]
	}
	r.take(4) // sequence
	if kind != thriftReply {
		return false
	}
	return r.take(1)[0] == thriftStop || binary.BigEndian.Uint16(r.take(2)) == 0
}
