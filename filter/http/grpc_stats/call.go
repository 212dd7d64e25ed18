package grpcstats

import (
	"encoding/json"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/grpc"
	"github.com/outrigger-proxy/outrigger/internal/header"
)

// kind is what a request is.
type kind uint8

const (
	none kind = iota
	grpcCall
	connectUnary  // Connect, https://connectrpc.com/docs/protocol: bodies are messages without frames
	connectStream // the same frames as gRPC's, and a last one that holds the status
)

func kindOf(s *filter.Stream) kind {
	h := &s.Request.Header
	v, _ := h.Find(header.ContentType)
	switch {
	case grpc.IsContentType(v):
		return grpcCall
	case strings.HasPrefix(v, connectPrefix):
		return connectStream
	case h.Has("connect-protocol-version"):
		return connectUnary
	}
	return none
}

const connectPrefix = "application/connect+"

// call is the state of a stream.
type call struct {
	f        *Filter
	s        *filter.Stream
	calls    *grpc.Calls // nil: only the filter state counts
	kind     kind
	framed   bool // the response's messages have frames
	last     lastFrame
	request  counted
	response counted
	counts   *Counts // in the filter state
}

// headed looks at the head of the response.
func (c *call) headed() {
	r := &c.s.Response
	switch c.kind {
	case grpcCall:
		c.framed = grpc.IsResponse(r)
		c.status(&r.Header)
	case connectUnary:
		if c.calls != nil {
			c.calls.Done(r.Status == 200)
		}
	case connectStream:
		c.framed = true
		if v, _ := r.Header.Find(header.ContentType); r.Status != 200 || !strings.HasPrefix(v, connectPrefix) {
			c.status(&r.Header)
		}
	}
	if r.Body == nil {
		c.timed()
	}
}

// arrived counts the messages that have come in and that nobody has read, since there is nobody to send them to.
func (c *call) arrived() {
	for c.request.src != nil {
		if p, err := c.request.Next(false); len(p) == 0 || err != nil {
			return
		}
	}
}

// status counts the end of the call if h, a head or trailers, has it.
func (c *call) status(h *header.Map) {
	if v, ok := h.Find(header.GRPCStatus); ok && c.calls != nil {
		c.calls.Ended(v)
	}
}

// timed records how long the upstream took from the end of the request to the end of the response.
func (c *call) timed() {
	u := &c.s.Info.Upstream
	if c.f.times && c.calls != nil && u.LastTx != 0 && u.LastRx != 0 {
		c.calls.Time.Record(uint64(max(time.Duration(u.LastRx-u.LastTx), 0) / time.Millisecond))
	}
}

// messages counts n more in a direction.
func (c *call) messages(b *counted, n int) {
	if n == 0 {
		return
	}
	b.count += uint64(n)
	if c.f.emit {
		c.emit()
	}
	switch {
	case c.calls == nil:
	case b.answer:
		c.calls.Responses.Add(uint64(n))
	default:
		c.calls.Requests.Add(uint64(n))
	}
}

// emit writes the counts into the filter state.
func (c *call) emit() {
	if c.counts == nil {
		c.counts = &Counts{}
		if c.s.Info.State == nil {
			c.s.Info.State = filter.State{}
		}
		c.s.Info.State[stateKey] = c.counts
	}
	c.counts.Requests, c.counts.Responses = c.request.count, c.response.count
}

// counted is a body whose messages are counted.
type counted struct {
	c      *call
	src    filter.Body
	answer bool // it is the response's
	frames grpc.Scanner
	count  uint64
}

// Next passes a piece on.
func (b *counted) Next(wait bool) ([]byte, error) {
	p, err := b.src.Next(wait)
	switch {
	case len(p) > 0:
		b.see(p)
	case err == io.EOF:
		b.ended()
	}
	return p, err
}

func (b *counted) see(p []byte) {
	c := b.c
	switch {
	case c.kind == connectStream && b.answer:
		c.messages(b, c.last.count(&b.frames, p))
	case c.kind == connectUnary || b.answer && !c.framed:
	default:
		c.messages(b, b.frames.Count(p))
	}
}

// ended is the end of a body; a message without frames is one that has ended without trailers.
func (b *counted) ended() {
	c := b.c
	trailer := &c.s.Request.Trailer
	if b.answer {
		trailer = &c.s.Response.Trailer
	}
	switch {
	case trailer.Len() > 0:
		if b.answer && c.kind == grpcCall {
			c.status(trailer)
			c.timed()
		}
	case c.kind == connectUnary:
		c.messages(b, 1)
		if b.answer {
			c.timed()
		}
	case c.kind == connectStream && b.answer:
		if c.calls != nil {
			c.calls.Done(c.last.success())
		}
		c.timed()
	}
}

// lastFrame is the frame in which a stream of Connect says how it has ended.
type lastFrame struct {
	begun, ended bool
	text         []byte
}

// mostLast is how long a last frame may be to be understood.
const mostLast = 64 << 10

// count counts the messages in p, and keeps the last frame, behind which nothing counts.
func (l *lastFrame) count(frames *grpc.Scanner, p []byte) (n int) {
	for len(p) > 0 && !l.ended {
		part := frames.Scan(p)
		p = p[len(part.Bytes):]
		if part.Begins && part.Flags&grpc.EndStream != 0 {
			l.begun = true
		} else if part.Begins {
			n++
		}
		if l.begun {
			if len(l.text) <= mostLast {
				l.text = append(l.text, part.Bytes[part.Head:]...)
			}
			l.ended = part.Ends
		}
	}
	return n
}

// success says whether the last frame has come, and names no error.
func (l *lastFrame) success() bool {
	var status struct {
		Error *json.RawMessage `json:"error"`
	}
	return l.ended && json.Unmarshal(l.text, &status) == nil && status.Error == nil
}

// Counts is what stands in the filter state.
type Counts struct{ Requests, Responses uint64 }

// String is what %FILTER_STATE(envoy.filters.http.grpc_stats:PLAIN)% prints.
func (c *Counts) String() string {
	return strconv.FormatUint(c.Requests, 10) + "," + strconv.FormatUint(c.Responses, 10)
}

// MarshalJSON is what :TYPED prints: protobuf's JSON of the message envoy.extensions.filters.http.grpc_stats.v3.FilterObject.
func (c *Counts) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Requests  uint64 `json:"requestMessageCount,string,omitempty"`
		Responses uint64 `json:"responseMessageCount,string,omitempty"`
	}{c.Requests, c.Responses})
}
