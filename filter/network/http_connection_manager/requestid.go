package hcm

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"

	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// tracePosition is where a UUID's version stands; Envoy keeps its decision on tracing there: 4 is "not traced".
const (
	tracePosition = 14
	uuidLength    = 36
	notTraced     = '4'
)

// requestID gives the request an id (envoy.request_id.uuid): always at the edge, unless external ids are preserved, and else where
// there is none.
func (x *exchange) requestID(edge bool) {
	r, h := &x.cfg.request, &x.Request.Header
	id := x.seen.requestID
	switch {
	case !r.generateID:
	case id == "" || edge && !r.preserveID:
		id = x.Append(appendUUID)
		h.Set("x-request-id", id)
	case edge && r.packTrace && len(id) == uuidLength && id[tracePosition] != notTraced:
		id = x.Text(id[:tracePosition], string(notTraced), id[tracePosition+1:])
		h.Set("x-request-id", id)
	}
	x.Info.RequestID = id
}

// appendUUID appends a random UUID (RFC 9562, version 4).
func appendUUID(b []byte, _ *stream.Stream) []byte {
	var u [16]byte
	binary.LittleEndian.PutUint64(u[:], rand.Uint64())
	binary.LittleEndian.PutUint64(u[8:], rand.Uint64())
	u[6], u[8] = u[6]&0x0f|0x40, u[8]&0x3f|0x80
	for i, n := range [...]int{4, 6, 8, 10, 16} {
		if i > 0 {
			b = append(b, '-')
		}
		from := [...]int{0, 4, 6, 8, 10}[i]
		b = hex.AppendEncode(b, u[from:n])
	}
	return b
}
