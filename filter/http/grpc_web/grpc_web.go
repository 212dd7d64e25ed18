// Package grpcweb is the HTTP filter envoy.filters.http.grpc_web
// (type.googleapis.com/envoy.extensions.filters.http.grpc_web.v3.GrpcWeb): it translates between gRPC-Web, which browsers speak, and
// gRPC (github.com/grpc/grpc/doc/PROTOCOL-WEB.md).
//
// Differences to Envoy: the parts of a grpc-web-text body, which is base64, may each end with padding, however they arrive.
package grpcweb

import (
	"strings"

	grpcwebv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/grpc_web/v3"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/grpc"
	"github.com/outrigger-proxy/outrigger/internal/header"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// The content types of gRPC-Web; those of text are base64.
const (
	binary      = "application/grpc-web"
	binaryProto = "application/grpc-web+proto"
	text        = "application/grpc-web-text"
	textProto   = "application/grpc-web-text+proto"
)

func isText(contentType string) bool { return contentType == text || contentType == textProto }

func isBinary(contentType string) bool { return contentType == binary || contentType == binaryProto }

// Filter is one value for all workers.
type Filter struct {
	// set at construction
	slot filter.Slot[call]
	// owned by the worker of the same index
	books []*grpc.Book
}

// call is the state of a stream.
type call struct {
	on       bool
	text     bool        // the client wants text
	calls    *grpc.Calls // nil: nowhere to count
	request  decoder
	response encoder
	message  []byte // the trailers' frame, or the body of a response that is no gRPC
}

// keep is how much memory of a body stays with a stream that is over.
const keep = 64 << 10

// Reset makes c ready for another stream.
func (c *call) Reset() {
	*c = call{request: decoder{out: memory(c.request.out)}, response: encoder{out: memory(c.response.out)}, message: memory(c.message)}
}

func memory(b []byte) []byte {
	if cap(b) > keep {
		return nil
	}
	return b[:0]
}

// New builds the filter.
func New(_ *grpcwebv3.GrpcWeb, env filter.Env) (any, error) {
	f := &Filter{slot: filter.NewSlot[call](env)}
	for range env.Workers {
		f.books = append(f.books, grpc.NewBook("grpc-web", false))
	}
	return f, nil
}

// OnRequest makes gRPC of a gRPC-Web request.
func (f *Filter) OnRequest(s *filter.Stream) filter.Status {
	c, h := f.slot.Get(s), &s.Request.Header
	contentType, _ := h.Find(header.ContentType)
	if c.on = isText(contentType) || isBinary(contentType); !c.on {
		return filter.Continue
	}
	h.RemoveID(header.ContentLength) // of what the client has encoded
	if service, method, ok := grpc.Method(s.Request.Path); ok && s.Cluster != nil {
		c.calls = f.books[s.Worker.ID].Calls(s.Cluster.Codes, service, method)
	}
	accept, _ := h.Find(header.Accept)
	c.text = isText(accept)
	h.SetID(header.ContentType, grpc.ContentType)
	h.SetID(header.TE, "trailers")
	if v, _ := h.Get("grpc-accept-encoding"); v == "" {
		h.Set("grpc-accept-encoding", "identity")
	}
	if isText(contentType) && s.Request.Body != nil {
		c.request = decoder{s: s, src: s.Request.Body, out: c.request.out}
		s.Request.Body = &c.request
		if err := c.request.begin(); err != nil {
			return s.Unreadable(err)
		}
	}
	return filter.Continue
}

// OnResponse makes gRPC-Web of a gRPC response, and of one that is none the failure of a call.
func (f *Filter) OnResponse(s *filter.Stream) filter.Status {
	c, r := f.slot.Get(s), &s.Response
	if !c.on {
		return filter.Continue
	}
	c.count(&r.Header)
	foreign := !grpc.IsResponse(r) && !isProto(r)
	r.Header.RemoveID(header.ContentLength)
	if r.Header.SetID(header.ContentType, binaryProto); c.text {
		r.Header.SetID(header.ContentType, textProto)
	}
	switch {
	case r.Body == nil:
	case foreign:
		return c.translate(s)
	default:
		c.response = encoder{s: s, c: c, src: r.Body, text: c.text, out: c.response.out}
		r.Body = &c.response
	}
	return filter.Continue
}

// isProto says whether the upstream itself speaks gRPC-Web.
func isProto(r *stream.Response) bool {
	v, _ := r.Header.Find(header.ContentType)
	v, _, _ = strings.Cut(v, ";")
	v = strings.TrimRight(v, " \t")
	return r.Status == 200 && (strings.EqualFold(v, binary) || strings.EqualFold(v, binaryProto))
}

// count counts the end of the call if h, a head or trailers, has it.
func (c *call) count(h *header.Map) {
	if v, ok := h.Find(header.GRPCStatus); ok && c.calls != nil {
		c.calls.Ended(v)
	}
}
