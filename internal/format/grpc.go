package format

import (
	"errors"

	"github.com/outrigger-proxy/outrigger/internal/grpc"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// grpcStatus is %GRPC_STATUS(X)%.
func grpcStatus(c call) (*operator, error) {
	switch c.param {
	case "", "CAMEL_STRING":
		return grpcNamed(grpc.Status.Camel), nil
	case "SNAKE_STRING":
		return grpcNamed(grpc.Status.Snake), nil
	case "NUMBER":
		return optionalOperator(func(s *stream.Stream) (int64, bool) {
			n, ok := grpcOf(s)
			return int64(n), ok
		}), nil
	}
	return nil, errors.New("GrpcStatusFormatter only supports CAMEL_STRING, SNAKE_STRING or NUMBER. Got: " + c.param)
}

func grpcNamed(name func(grpc.Status) string) *operator {
	return &operator{text: func(b []byte, s *stream.Stream) ([]byte, bool) {
		n, ok := grpcOf(s)
		if !ok {
			return b, false
		}
		return append(b, name(n)...), true
	}}
}

// grpcOf is the status of the response to a gRPC request.
func grpcOf(s *stream.Stream) (n grpc.Status, ok bool) {
	if !grpc.IsRequest(&s.Request.Header) {
		return 0, false
	}
	return grpc.StatusOfStream(s)
}
