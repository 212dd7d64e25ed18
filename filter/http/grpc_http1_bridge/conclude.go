package grpchttp1bridge

import (
	"strconv"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/grpc"
	"github.com/outrigger-proxy/outrigger/internal/header"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// conclude makes a failed call a 503; h is where the grpc-status stands.
func conclude(s *filter.Stream, h *header.Map, size int) {
	r := &s.Response
	if v, ok := h.Find(header.GRPCStatus); ok && grpc.ParseStatus(v) != grpc.OK {
		r.Status = 503
	}
	r.Header.SetID(header.ContentLength, length(s, size))
}

// length is a content-length that lives until the stream ends.
func length(s *filter.Stream, n int) string {
	return s.Append(func(b []byte, _ *stream.Stream) []byte { return strconv.AppendInt(b, int64(n), 10) })
}
