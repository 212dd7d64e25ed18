package grpchttp1bridge

import (
	"strconv"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/grpc"
	"github.com/outrigger-proxy/outrigger/internal/header"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// conclude puts what the trailers say into the head, and makes a failed call a 503.
func conclude(s *filter.Stream, size int) {
	r := &s.Response
	if v, ok := r.Trailer.Find(header.GRPCStatus); ok {
		if grpc.ParseStatus(v) != grpc.OK {
			r.Status = 503
		}
		r.Header.SetID(header.GRPCStatus, v)
	}
	if v, ok := r.Trailer.Get("grpc-message"); ok {
		r.Header.Set("grpc-message", v)
	}
	length := s.Append(func(b []byte, _ *stream.Stream) []byte { return strconv.AppendInt(b, int64(size), 10) })
	r.Header.SetID(header.ContentLength, length)
}
