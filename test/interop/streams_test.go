package interop

import (
	"context"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const anything = "{match: {prefix: /}, route: {cluster: up, timeout: 0s}}"

// slow is a server that takes its time: every message waits for a word from the test.
type slow struct {
	testgrpc.UnimplementedTestServiceServer

	gate chan struct{} // a message each
	seen atomic.Int64  // messages that have come in
}

func (s *slow) wait(ctx context.Context) error {
	select {
	case <-s.gate:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *slow) UnaryCall(ctx context.Context, q *testgrpc.SimpleRequest) (*testgrpc.SimpleResponse, error) {
	s.seen.Add(1)
	return &testgrpc.SimpleResponse{Payload: q.GetPayload()}, s.wait(ctx)
}

func (s *slow) EmptyCall(context.Context, *testgrpc.Empty) (*testgrpc.Empty, error) {
	return &testgrpc.Empty{}, nil
}

func (s *slow) StreamingInputCall(stream testgrpc.TestService_StreamingInputCallServer) error {
	n := 0
	for {
		if err := s.wait(stream.Context()); err != nil {
			return err
		}
		q, err := stream.Recv()
		if err == io.EOF {
			return stream.SendAndClose(&testgrpc.StreamingInputCallResponse{AggregatedPayloadSize: int32(n)})
		}
		if err != nil {
			return err
		}
		s.seen.Add(1)
		n += len(q.GetPayload().GetBody())
	}
}

func (s *slow) StreamingOutputCall(q *testgrpc.StreamingOutputCallRequest, stream testgrpc.TestService_StreamingOutputCallServer) error {
	for _, p := range q.GetResponseParameters() {
		if err := s.wait(stream.Context()); err != nil {
			return err
		}
		if err := stream.Send(payload(int(p.GetSize()))); err != nil {
			return err
		}
	}
	return nil
}

func (s *slow) FullDuplexCall(stream testgrpc.TestService_FullDuplexCallServer) error {
	for {
		q, err := stream.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		s.seen.Add(1)
		if err := s.wait(stream.Context()); err != nil {
			return err
		}
		for _, p := range q.GetResponseParameters() {
			if err := stream.Send(payload(int(p.GetSize()))); err != nil {
				return err
			}
		}
	}
}

func payload(n int) *testgrpc.StreamingOutputCallResponse {
	return &testgrpc.StreamingOutputCallResponse{Payload: &testgrpc.Payload{Body: make([]byte, n)}}
}

func sized(sizes ...int) (all []*testgrpc.ResponseParameters) {
	for _, n := range sizes {
		all = append(all, &testgrpc.ResponseParameters{Size: int32(n)})
	}
	return all
}

// until waits for what is to come about.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(what, "does not come about")
		}
	}
}

// TestSlow lets all four kinds of call go on message by message: each arrives before the next one is sent.
func TestSlow(t *testing.T) {
	server := &slow{gate: make(chan struct{})}
	each(t, anything, server, func(t *testing.T, s *stage) {
		server.seen.Store(0)
		c := testgrpc.NewTestServiceClient(s.dial(t))
		ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
		defer cancel()
		for _, kind := range []struct {
			name string
			play func(context.Context, *testing.T, testgrpc.TestServiceClient, *slow)
		}{{"unary", slowUnary}, {"client stream", slowUpload}, {"server stream", slowDownload}, {"both", slowBoth}} {
			t.Run(kind.name, func(t *testing.T) { kind.play(ctx, t, c, server) })
		}
	})
}

func slowUnary(ctx context.Context, t *testing.T, c testgrpc.TestServiceClient, server *slow) {
	before := server.seen.Load()
	result := make(chan error)
	go func() { // ends with the call
		_, err := c.UnaryCall(ctx, &testgrpc.SimpleRequest{Payload: &testgrpc.Payload{Body: make([]byte, 100_000)}})
		result <- err
	}()
	until(t, "the request", func() bool { return server.seen.Load() == before+1 })
	server.gate <- struct{}{}
	if err := <-result; err != nil {
		t.Error(err)
	}
}

func slowUpload(ctx context.Context, t *testing.T, c testgrpc.TestServiceClient, server *slow) {
	stream, err := c.StreamingInputCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for i, n := range []int{1, 0, 70_000} {
		before := server.seen.Load()
		if err := stream.Send(&testgrpc.StreamingInputCallRequest{Payload: &testgrpc.Payload{Body: make([]byte, n)}}); err != nil {
			t.Fatal(i, err)
		}
		server.gate <- struct{}{}
		until(t, "a message of the client", func() bool { return server.seen.Load() == before+1 })
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	server.gate <- struct{}{}
	var r testgrpc.StreamingInputCallResponse
	if err := stream.RecvMsg(&r); err != nil || r.GetAggregatedPayloadSize() != 70_001 {
		t.Errorf("%d %v", r.GetAggregatedPayloadSize(), err)
	}
}

func slowDownload(ctx context.Context, t *testing.T, c testgrpc.TestServiceClient, server *slow) {
	sizes := []int{1, 0, 70_000}
	stream, err := c.StreamingOutputCall(ctx, &testgrpc.StreamingOutputCallRequest{ResponseParameters: sized(sizes...)})
	if err != nil {
		t.Fatal(err)
	}
	for i, n := range sizes {
		server.gate <- struct{}{}
		r, err := stream.Recv()
		if err != nil || len(r.GetPayload().GetBody()) != n {
			t.Fatalf("message %d: %d %v", i, len(r.GetPayload().GetBody()), err)
		}
	}
	if _, err := stream.Recv(); err != io.EOF {
		t.Error(err)
	}
}

func slowBoth(ctx context.Context, t *testing.T, c testgrpc.TestServiceClient, server *slow) {
	stream, err := c.FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for i, n := range []int{1, 0, 70_000, 3} {
		before := server.seen.Load()
		if err := stream.Send(&testgrpc.StreamingOutputCallRequest{ResponseParameters: sized(n, 2)}); err != nil {
			t.Fatal(i, err)
		}
		until(t, "a message of the client", func() bool { return server.seen.Load() == before+1 })
		server.gate <- struct{}{}
		for _, want := range []int{n, 2} {
			r, err := stream.Recv()
			if err != nil || len(r.GetPayload().GetBody()) != want {
				t.Fatalf("message %d: %d %v", i, len(r.GetPayload().GetBody()), err)
			}
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != io.EOF {
		t.Error(err)
	}
}

// TestStalled shows that streams which nobody reads, at either end, cost no other stream of the same connection anything.
func TestStalled(t *testing.T) {
	server := &slow{gate: make(chan struct{})}
	each(t, anything, server, func(t *testing.T, s *stage) {
		c := testgrpc.NewTestServiceClient(s.dial(t))
		ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
		defer cancel()
		stalled, stop := context.WithCancel(ctx)
		defer stop()
		// The server does not read: the client's messages fill every window on their way.
		up, err := c.StreamingInputCall(stalled)
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() { // ends with stop
			defer close(ended)
			big := &testgrpc.StreamingInputCallRequest{Payload: &testgrpc.Payload{Body: make([]byte, 64<<10)}}
			for up.Send(big) == nil {
			}
		}()
		// The client does not read.
		sizes := make([]int, 64)
		for i := range sizes {
			sizes[i] = 64 << 10
		}
		down, err := c.FullDuplexCall(stalled)
		if err != nil {
			t.Fatal(err)
		}
		if err := down.Send(&testgrpc.StreamingOutputCallRequest{ResponseParameters: sized(sizes...)}); err != nil {
			t.Fatal(err)
		}
		server.gate <- struct{}{} // for either of them
		for i := range 200 {
			if _, err := c.EmptyCall(ctx, &testgrpc.Empty{}); err != nil {
				t.Fatalf("call %d beside stalled streams: %v", i, err)
			}
		}
		stop()
		<-ended
		if _, err := c.EmptyCall(ctx, &testgrpc.Empty{}); err != nil {
			t.Error(err)
		}
	})
}

// moody is a server that fails, with a head alone or after a message, as often as it is told.
type moody struct {
	testgrpc.UnimplementedTestServiceServer

	calls    atomic.Int64
	failures atomic.Int64
	code     codes.Code
	timeout  atomic.Value // grpc-timeout of the last call, as a time.Duration
	received atomic.Value // x-test-bin of the last call
}

func (m *moody) EmptyCall(ctx context.Context, _ *testgrpc.Empty) (*testgrpc.Empty, error) {
	m.calls.Add(1)
	d, _ := ctx.Deadline()
	m.timeout.Store(time.Until(d))
	if in, ok := metadata.FromIncomingContext(ctx); ok {
		m.received.Store(in.Get("x-test-bin"))
	}
	if m.failures.Add(-1) >= 0 {
		return nil, status.Error(m.code, "not now")
	}
	return &testgrpc.Empty{}, nil
}

func (m *moody) FullDuplexCall(stream testgrpc.TestService_FullDuplexCallServer) error {
	m.calls.Add(1)
	if _, err := stream.Recv(); err != nil {
		return err
	}
	if m.failures.Add(-1) >= 0 {
		if err := stream.Send(payload(1)); err != nil {
			return err
		}
		return status.Error(m.code, "not now")
	}
	<-stream.Context().Done()
	return stream.Context().Err()
}

// TestRetries tries again what fails for a listed reason before anything of the response has come; a status in trailers comes too late.
func TestRetries(t *testing.T) {
	const route = `{match: {prefix: /}, route: {cluster: up, retry_policy: {num_retries: 2, retry_back_off: {base_interval: 0.001s},
		retry_on: "cancelled,deadline-exceeded,internal,resource-exhausted,unavailable"}}}`
	server := &moody{}
	each(t, route, server, func(t *testing.T, s *stage) {
		c := testgrpc.NewTestServiceClient(s.dial(t, grpc.WithDisableRetry()))
		for code, again := range map[codes.Code]bool{
			codes.Canceled: true, codes.DeadlineExceeded: true, codes.Internal: true, codes.ResourceExhausted: true, codes.Unavailable: true,
			codes.NotFound: false, codes.Aborted: false, codes.Unknown: false,
		} {
			for failures, want := range map[int64]codes.Code{2: codes.OK, 3: code} {
				calls := int64(3)
				if !again {
					want, calls = code, 1
				}
				server.calls.Store(0)
				server.failures.Store(failures)
				server.code = code
				if _, err := c.EmptyCall(t.Context(), &testgrpc.Empty{}); status.Code(err) != want || server.calls.Load() != calls {
					t.Errorf("%v, %d times: %v after %d calls, not %v after %d", code, failures, err, server.calls.Load(), want, calls)
				}
			}
		}
		server.calls.Store(0)
		server.failures.Store(1)
		server.code = codes.Unavailable
		stream, err := c.FullDuplexCall(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.Send(&testgrpc.StreamingOutputCallRequest{}); err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); status.Code(err) != codes.Unavailable || server.calls.Load() != 1 {
			t.Errorf("%v after %d calls", err, server.calls.Load())
		}
	})
}

// TestDeadlines ends calls by the client's deadline, as far as the route listens to it, and tells the server of it.
func TestDeadlines(t *testing.T) {
	const route = `{match: {path: /grpc.testing.TestService/FullDuplexCall}, request_headers_to_remove: [grpc-timeout], route: {cluster: up, max_stream_duration: {grpc_timeout_header_max: 0s, grpc_timeout_header_offset: 59.9s}}},
		{match: {prefix: /}, route: {cluster: up, max_stream_duration: {grpc_timeout_header_max: 30s, grpc_timeout_header_offset: 0.1s}}}`
	server := &moody{}
	each(t, route, server, func(t *testing.T, s *stage) {
		c := testgrpc.NewTestServiceClient(s.dial(t))
		for deadline, most := range map[time.Duration]time.Duration{time.Hour: 30 * time.Second, 20 * time.Second: 20 * time.Second} {
			ctx, cancel := context.WithTimeout(t.Context(), deadline)
			if _, err := c.EmptyCall(ctx, &testgrpc.Empty{}); err != nil {
				t.Error(err)
			}
			cancel()
			most -= 100 * time.Millisecond
			if got, _ := server.timeout.Load().(time.Duration); got > most || got < most-10*time.Second {
				t.Errorf("the server has %v of %v, not %v", got, deadline, most)
			}
		}
		// The proxy is the one that ends this call, of whose end the server is not told, long before the client would.
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		stream, err := c.FullDuplexCall(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = stream.Recv(); status.Code(err) != codes.DeadlineExceeded || status.Convert(err).Message() != "downstream duration timeout" {
			t.Error(err)
		}
	})
}

// TestBinaryMetadata passes binary metadata on, byte by byte.
func TestBinaryMetadata(t *testing.T) {
	server := &moody{}
	each(t, anything, server, func(t *testing.T, s *stage) {
		var all [256]byte
		for i := range all {
			all[i] = byte(i)
		}
		ctx := metadata.AppendToOutgoingContext(t.Context(), "x-test-bin", string(all[:]), "x-test-bin", "\x00", "x-test-bin", "")
		if _, err := testgrpc.NewTestServiceClient(s.dial(t)).EmptyCall(ctx, &testgrpc.Empty{}); err != nil {
			t.Fatal(err)
		}
		if got, _ := server.received.Load().([]string); len(got) != 3 || got[0] != string(all[:]) || got[1] != "\x00" || got[2] != "" {
			t.Errorf("%q", got)
		}
	})
}
