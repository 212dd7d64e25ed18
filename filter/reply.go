package filter

import (
	"strconv"
	"strings"

	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// Reply is a response of our own.
type Reply struct {
	Status  int    // HTTP
	Details string // response code details: words joined by underscores
	Body    string // copied
	GRPC    int    // grpc-status, if the request is gRPC; 0: the one that Status maps to
}

// Mapper rewrites local replies before they go through the response hooks (local_reply_config).
type Mapper interface {
	// Map may change the status and the headers of s.Response; it returns the body, which lives until the stream ends, and its
	// content type, which replaces the one of the response if it is not empty.
	Map(s *Stream, body []byte) (mapped []byte, contentType string)
}

const grpcDeadlineExceeded = 4

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
	if s.GRPC() {
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
		status = GRPCStatus(r.Status)
	}
	r.Status, s.Info.Status = 200, 200
	r.Header.Set("content-type", "application/grpc")
	r.Header.Del("content-length")
	if _, ok := r.Header.Get("grpc-status"); !ok {
		r.Header.Add("grpc-status", s.number(status))
	}
	if contentType == "application/json" && len(body) > 0 && body[len(body)-1] == '\n' {
		body = body[:len(body)-1]
	}
	if len(body) > 0 && s.Request.Method != "HEAD" {
		r.Header.Add("grpc-message", s.Append(func(b []byte, _ *stream.Stream) []byte { return appendPercent(b, body) }))
	}
}

// GRPC says whether the request is gRPC, by its content type.
func (s *Stream) GRPC() bool {
	t, _ := s.Request.Header.Get("content-type")
	rest, ok := strings.CutPrefix(t, "application/grpc")
	return ok && (rest == "" || rest[0] == '+')
}

// GRPCStatus is the grpc-status that an HTTP status maps to (gRPC: http-grpc-status-mapping.md).
func GRPCStatus(status int) int {
	switch status {
	case 400:
		return 13
	case 401:
		return 16
	case 403:
		return 7
	case 404:
		return 12
	case 429, 502, 503, 504:
		return 14
	}
	return 2
}

// appendPercent encodes a grpc-message (gRPC: PROTOCOL-HTTP2.md, Percent-Encoded).
func appendPercent(b, text []byte) []byte {
	for _, c := range text {
		if c >= ' ' && c <= '~' && c != '%' {
			b = append(b, c)
		} else {
			b = append(b, '%', "0123456789ABCDEF"[c>>4], "0123456789ABCDEF"[c&15])
		}
	}
	return b
}

// number is n as text that lives until the stream ends.
func (s *Stream) number(n int) string {
	var b [20]byte
	return s.Text(string(strconv.AppendInt(b[:0], int64(n), 10)))
}
