package grpc

import (
	"strconv"

	"github.com/outrigger-proxy/outrigger/internal/header"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// Status is a grpc-status (statuscodes). Services may use numbers of their own.
type Status int64

// The statuses.
const (
	OK Status = iota
	Canceled
	Unknown
	InvalidArgument
	DeadlineExceeded
	NotFound
	AlreadyExists
	PermissionDenied
	ResourceExhausted
	FailedPrecondition
	Aborted
	OutOfRange
	Unimplemented
	Internal
	Unavailable
	DataLoss
	Unauthenticated
)

// Invalid is a grpc-status that is no number.
const Invalid Status = -1

// names are those of gRPC's own libraries, and those of google.rpc.Code.
var names = [...]struct{ camel, snake string }{
	{"OK", "OK"},
	{"Canceled", "CANCELLED"},
	{"Unknown", "UNKNOWN"},
	{"InvalidArgument", "INVALID_ARGUMENT"},
	{"DeadlineExceeded", "DEADLINE_EXCEEDED"},
	{"NotFound", "NOT_FOUND"},
	{"AlreadyExists", "ALREADY_EXISTS"},
	{"PermissionDenied", "PERMISSION_DENIED"},
	{"ResourceExhausted", "RESOURCE_EXHAUSTED"},
	{"FailedPrecondition", "FAILED_PRECONDITION"},
	{"Aborted", "ABORTED"},
	{"OutOfRange", "OUT_OF_RANGE"},
	{"Unimplemented", "UNIMPLEMENTED"},
	{"Internal", "INTERNAL"},
	{"Unavailable", "UNAVAILABLE"},
	{"DataLoss", "DATA_LOSS"},
	{"Unauthenticated", "UNAUTHENTICATED"},
}

// Known says whether gRPC defines s.
func (s Status) Known() bool { return s >= 0 && int(s) < len(names) }

// Camel returns the name as gRPC's libraries write it, "DeadlineExceeded"; the number where there is no name.
func (s Status) Camel() string {
	if s.Known() {
		return names[s].camel
	}
	return strconv.FormatInt(int64(s), 10)
}

// Snake returns the name of google.rpc.Code, "DEADLINE_EXCEEDED"; the number where there is no name.
func (s Status) Snake() string {
	if s.Known() {
		return names[s].snake
	}
	return strconv.FormatInt(int64(s), 10)
}

// FromHTTP returns what the HTTP status of a response without a grpc-status stands for (http-grpc-status-mapping).
func FromHTTP(status int) Status {
	switch status {
	case 400:
		return Internal
	case 401:
		return Unauthenticated
	case 403:
		return PermissionDenied
	case 404:
		return Unimplemented
	case 429, 502, 503, 504:
		return Unavailable
	}
	return Unknown
}

// HTTP returns the HTTP status that says about the same (google/rpc/code.proto); 500 for what gRPC does not define.
func (s Status) HTTP() int {
	switch s {
	case OK:
		return 200
	case Canceled:
		return 499
	case InvalidArgument, FailedPrecondition, OutOfRange:
		return 400
	case DeadlineExceeded:
		return 504
	case NotFound:
		return 404
	case AlreadyExists, Aborted:
		return 409
	case PermissionDenied:
		return 403
	case ResourceExhausted:
		return 429
	case Unimplemented:
		return 501
	case Unavailable:
		return 503
	case Unauthenticated:
		return 401
	}
	return 500
}

// ParseStatus reads the value of a grpc-status header.
func ParseStatus(v string) Status {
	n, err := strconv.ParseUint(v, 10, 63)
	if err != nil {
		return Invalid
	}
	return Status(n)
}

// StatusOf reads the grpc-status of a head or of trailers; ok says whether there is one.
func StatusOf(h *header.Map) (s Status, ok bool) {
	v, _ := h.Find(header.GRPCStatus)
	if v == "" {
		return 0, false
	}
	return ParseStatus(v), true
}

// StatusOfStream returns the status of a response for logs: that of its trailers, of its head, or the one that its HTTP status stands
// for. ok is false if there was no response.
func StatusOfStream(s *stream.Stream) (status Status, ok bool) {
	if status, ok = StatusOf(&s.Response.Trailer); ok {
		return status, true
	}
	if status, ok = StatusOf(&s.Response.Header); ok {
		return status, true
	}
	if s.Info.Status == 0 {
		return 0, false
	}
	return FromHTTP(s.Info.Status), true
}
