package filter

import (
	"strconv"

	"github.com/outrigger-proxy/outrigger/internal/grpc"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// Reply is a response of our own.
type Reply struct {
	Status  int    // HTTP
	Details string // response code details: words joined by underscores
	Body    string // copied
	// GRPC is the grpc-status, if the client asked for gRPC; 0: the one that Status stands for.
	GRPC grpc.Status
}

// Mapper rewrites local replies before they go through the response hooks (local_reply_config).
type Mapper interface {
	// Map may change the status and the headers of s.Response; it returns the body, which lives until the stream ends, and its
	// content type, which replaces the one of the response if it is not empty.
	Map(s *Stream, body []byte) (mapped []byte, contentType string)
}

// LocalReply makes the response ourselves: `return s.LocalReply(403, "rbac_access_denied", "RBAC: access denied")`. Headers may
// be added to s.Response afterwards.
func (s *Stream) LocalReply(status int, details, body string) Status {
	return s.Reply(Reply{Status: status, Details: details, Body: body})
}

// Reply is LocalReply with all that can be said.
func (s *Stream) Reply(p Reply) Status {
	r := &s.Response
	r.Header.Reset()
	r.Trailer.Reset()
	r.Status, r.Body, s.Info.Details = p.Status, nil, p.Details
	s.local, s.finished, s.badRequest, s.grpcStatus = true, false, p.Status == 400, p.GRPC
	s.reply = stream.Bytes{B: append(s.reply.B[:0], p.Body...)}
	return Stop
}

// Local says whether the response is our own.
func (s *Stream) Local() bool { return s.local }

// BadRequest says whether the response is our own and was meant to be a 400: an HTTP/1 connection does not go on after it.
func (s *Stream) BadRequest() bool { return s.badRequest }

// Finish turns the local reply into its final form: route headers, local_reply_config, gRPC. It does nothing to other responses,
// nor a second time.
func (s *Stream) Finish() {
	if !s.local || s.finished {
		return
	}
	s.finished = true
	s.editLocal()
	r := &s.Response
	custom := ""
	s.Info.Status = r.Status
	if m := s.Chain.Mapper; m != nil {
		s.reply.B, custom = m.Map(s, s.reply.B)
	}
	if s.grpc {
		s.finishGRPC(custom)
		return
	}
	if len(s.reply.B) == 0 {
		r.Header.Del("content-type")
		r.Header.Del("content-length")
		return
	}
	r.Body = &s.reply
	r.Header.Set("content-length", s.number(len(s.reply.B)))
	if _, ok := r.Header.Get("content-type"); custom != "" && (custom != plain || !ok) {
		r.Header.Set("content-type", custom)
	} else if !ok {
		r.Header.Add("content-type", plain)
	}
}

const plain = "text/plain"

// finishGRPC makes a trailers-only response.
func (s *Stream) finishGRPC(contentType string) {
	r := &s.Response
	status, body := s.grpcStatus, s.reply.B
	if status == 0 {
		status = grpc.FromHTTP(r.Status)
	}
	r.Status, s.Info.Status = 200, 200
	r.Header.Set("content-type", grpc.ContentType)
	r.Header.Del("content-length")
	if _, ok := r.Header.Get("grpc-status"); !ok {
		r.Header.Add("grpc-status", s.number(int(status)))
	}
	if contentType == "application/json" && len(body) > 0 && body[len(body)-1] == '\n' {
		body = body[:len(body)-1]
	}
	if len(body) > 0 && s.Request.Method != "HEAD" {
		r.Header.Set("grpc-message", s.Append(func(b []byte, _ *stream.Stream) []byte { return grpc.AppendMessage(b, body) }))
	}
}

// GRPC says whether the request is gRPC, by its content type as it is now. Local replies are gRPC if it was that when it came.
func (s *Stream) GRPC() bool { return grpc.IsRequest(&s.Request.Header) }

// number is n as text that lives until the stream ends.
func (s *Stream) number(n int) string {
	var b [20]byte
	return s.Text(string(strconv.AppendInt(b[:0], int64(n), 10)))
}
