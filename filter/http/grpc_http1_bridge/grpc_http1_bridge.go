// Package grpchttp1bridge is the HTTP filter envoy.filters.http.grpc_http1_bridge
// (type.googleapis.com/envoy.extensions.filters.http.grpc_http1_bridge.v3.Config): it lets a client that speaks HTTP/1.1 make unary
// gRPC calls, by telling in the head of the response what gRPC tells in its trailers.
//
// Differences to Envoy: a message that is to be framed and longer than may be buffered is answered with 413, where Envoy waits for ever;
// a response without trailers, which is none of gRPC, is left as it is, where Envoy takes its first five bytes off if it comes in more
// than one piece.
package grpchttp1bridge

import (
	"encoding/binary"
	"strings"

	bridgev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/grpc_http1_bridge/v3"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/grpc"
	"github.com/outrigger-proxy/outrigger/internal/header"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// protobuf is the content type of messages without frames.
const protobuf = "application/x-protobuf"

// Filter is one value for all workers.
type Filter struct {
	config

	// set at construction
	slot  filter.Slot[bridge]
	limit int // of a body
}

// bridge is the state of a stream.
type bridge struct {
	on       bool
	framing  bool // the client speaks protobuf and knows nothing of frames
	request  stream.Bytes
	response stream.Bytes
}

// keep is how much memory of a body stays with a stream that is over.
const keep = 64 << 10

// Reset makes b ready for another stream.
func (b *bridge) Reset() {
	*b = bridge{request: memory(b.request), response: memory(b.response)}
}

func memory(b stream.Bytes) stream.Bytes {
	if cap(b.B) > keep {
		return stream.Bytes{}
	}
	return stream.Bytes{B: b.B[:0]}
}

// New builds the filter.
func New(p *bridgev3.Config, env filter.Env) (any, error) {
	return &Filter{config: parse(p), slot: filter.NewSlot[bridge](env), limit: env.BufferLimit()}, nil
}

// OnRequest makes a gRPC request of what asks for it.
func (f *Filter) OnRequest(s *filter.Stream) filter.Status {
	b, h := f.slot.Get(s), &s.Request.Header
	if v, _ := h.Find(header.ContentType); f.upgrade && v == protobuf {
		b.framing = true
		h.SetID(header.ContentType, grpc.ContentType)
		h.RemoveID(header.ContentLength)
		s.Rematch()
	}
	if b.on = s.Info.Protocol < stream.HTTP2 && s.GRPC(); !b.on {
		return filter.Continue
	}
	if f.ignoreQuery {
		s.Request.Path, _, _ = strings.Cut(s.Request.Path, "?")
	}
	if b.framing && s.Request.Body != nil {
		return f.frame(s, b)
	}
	return filter.Continue
}

// frame puts the message, which must be all there for that, into a frame.
func (f *Filter) frame(s *filter.Stream, b *bridge) filter.Status {
	all, ok, err := stream.Collect(grpc.AppendHead(b.request.B, 0, 0), s.Request.Body, f.limit+grpc.HeadSize)
	b.request = stream.Bytes{B: all}
	switch {
	case err != nil:
		return s.Unreadable(err)
	case !ok:
		return s.BodyTooLarge()
	}
	binary.BigEndian.PutUint32(all[1:], uint32(len(all)-grpc.HeadSize))
	s.Request.Body = &b.request
	return filter.Continue
}

// OnResponse waits for the end of the response, and puts what the trailers say into its head.
func (f *Filter) OnResponse(s *filter.Stream) filter.Status {
	b, r := f.slot.Get(s), &s.Response
	if !b.on || r.Body == nil {
		return filter.Continue
	}
	all, ok, err := stream.Collect(b.response.B, r.Body, f.limit)
	b.response = stream.Bytes{B: all}
	switch {
	case err != nil:
		return s.Unfinished(err)
	case !ok:
		return s.LocalReply(500, "response_payload_too_large", "Internal Server Error")
	}
	r.Body = &b.response
	if r.Trailer.Len() > 0 {
		if b.framing {
			b.response.B = all[min(grpc.HeadSize, len(all)):]
		}
		conclude(s, len(b.response.B))
	}
	return filter.Continue
}
