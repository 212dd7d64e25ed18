package grpcweb

import (
	"io"
	"strconv"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/grpc"
	"github.com/outrigger-proxy/outrigger/internal/header"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// mostMessage is how much of a body becomes a grpc-message.
const mostMessage = 16 << 10

// translate makes a failed call of a response that is no gRPC: its body becomes the message.
func (c *call) translate(s *filter.Stream) filter.Status {
	r := &s.Response
	body := r.Body
	for {
		p, err := body.Next(true)
		if err == io.EOF {
			break
		}
		if err != nil {
			return s.Unfinished(err)
		}
		c.message = append(c.message, p[:min(len(p), mostMessage-len(c.message))]...)
	}
	if r.Trailer.Len() > 0 {
		c.count(&r.Trailer)
	}
	r.Body = nil
	h := &r.Header
	h.Set("grpc-message", s.Append(func(b []byte, _ *stream.Stream) []byte { return grpc.AppendMessage(b, c.message) }))
	h.SetID(header.GRPCStatus, s.Text(strconv.Itoa(int(grpc.FromHTTP(r.Status)))))
	h.SetID(header.ContentLength, "0")
	return filter.Continue
}
