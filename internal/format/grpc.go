package format

import (
	"errors"
	"strconv"
	"strings"

	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// grpcCamel are the names of the status codes as gRPC's own libraries write them.
var grpcCamel = [...]string{
	"OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound", "AlreadyExists",
	"PermissionDenied", "ResourceExhausted", "FailedPrecondition", "Aborted", "OutOfRange", "Unimplemented", "Internal",
	"Unavailable", "DataLoss", "Unauthenticated",
}

// grpcSnake are their names in google.rpc.Code.
var grpcSnake = [...]string{
	"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
	"PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL",
	"UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
}

// grpcStatus is %GRPC_STATUS(X)%.
func grpcStatus(c call) (*operator, error) {
	switch c.param {
	case "", "CAMEL_STRING":
		return grpcNamed(grpcCamel[:]), nil
	case "SNAKE_STRING":
		return grpcNamed(grpcSnake[:]), nil
	case "NUMBER":
		return optionalOperator(func(s *stream.Stream) (int64, bool) {
			if !isGRPC(s) {
				return 0, false
			}
			return GRPCStatus(s)
		}), nil
	}
	return nil, errors.New("GrpcStatusFormatter only supports CAMEL_STRING, SNAKE_STRING or NUMBER. Got: " + c.param)
}

func grpcNamed(names []string) *operator {
	return &operator{text: func(b []byte, s *stream.Stream) ([]byte, bool) {
		if !isGRPC(s) {
			return b, false
		}
		n, ok := GRPCStatus(s)
		if ok && n >= 0 && n < int64(len(names)) {
			return append(b, names[n]...), true
		}
		return strconv.AppendInt(b, n, 10), ok
	}}
}

// isGRPC says whether the request's content type is application/grpc or application/grpc+something.
func isGRPC(s *stream.Stream) bool {
	v, _ := s.Request.Header.Get("content-type")
	rest, ok := strings.CutPrefix(v, "application/grpc")
	return ok && (rest == "" || rest[0] == '+')
}

// GRPCStatus returns the gRPC status of a response: that of the trailers, of the head, or the one that the HTTP status stands for
// (https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md). One that is no number is -1.
func GRPCStatus(s *stream.Stream) (int64, bool) {
	v, ok := s.Response.Trailer.Get("grpc-status")
	if !ok {
		v, ok = s.Response.Header.Get("grpc-status")
	}
	if ok {
		n, err := strconv.ParseUint(v, 10, 32)
		if err != nil {
			return -1, true
		}
		return int64(n), true
	}
	if s.Info.Status == 0 {
		return 0, false
	}
	return fromHTTP(s.Info.Status), true
}

func fromHTTP(status int) int64 {
	switch status {
	case 400:
		return 13 // INTERNAL
	case 401:
		return 16 // UNAUTHENTICATED
	case 403:
		return 7 // PERMISSION_DENIED
	case 404:
		return 12 // UNIMPLEMENTED
	case 429, 502, 503, 504:
		return 14 // UNAVAILABLE
	}
	return 2 // UNKNOWN
}
