package interop

import (
	"context"
	"io"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/grpclog"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
)

// referee makes a failed case fail the test: the cases end the process by way of the logger of grpc-go, of which a process has one.
type referee struct {
	grpclog.LoggerV2

	now atomic.Pointer[testing.T]
}

// Fatalln is what the others of its kind come down to.
func (r *referee) Fatalln(args ...any) {
	t := r.now.Load()
	t.Helper()
	t.Fatal(args...)
}

var judge = &referee{LoggerV2: grpclog.NewLoggerV2(io.Discard, io.Discard, io.Discard)}

func TestMain(m *testing.M) {
	grpclog.SetLoggerV2(judge)
	os.Exit(m.Run())
}

// cases are the standard ones of grpc-go's client, but those that need Google's credentials, and pick_first_unary: its server does not
// say who it is, which that case asks for.
var cases = []struct {
	name string
	play func(ctx context.Context, s *stage, c *grpc.ClientConn, tc testgrpc.TestServiceClient)
}{
	{"empty_unary", simple(interop.DoEmptyUnaryCall)},
	{"large_unary", simple(interop.DoLargeUnaryCall)},
	{"client_streaming", simple(interop.DoClientStreaming)},
	{"server_streaming", simple(interop.DoServerStreaming)},
	{"ping_pong", simple(interop.DoPingPong)},
	{"empty_stream", simple(interop.DoEmptyStream)},
	{"timeout_on_sleeping_server", simple(interop.DoTimeoutOnSleepingServer)},
	{"cancel_after_begin", simple(interop.DoCancelAfterBegin)},
	{"cancel_after_first_response", simple(interop.DoCancelAfterFirstResponse)},
	{"status_code_and_message", simple(interop.DoStatusCodeAndMessage)},
	{"special_status_message", simple(interop.DoSpecialStatusMessage)},
	{"custom_metadata", simple(interop.DoCustomMetadata)},
	{"unimplemented_method", func(ctx context.Context, _ *stage, c *grpc.ClientConn, _ testgrpc.TestServiceClient) {
		interop.DoUnimplementedMethod(ctx, c)
	}},
	{"unimplemented_service", func(ctx context.Context, _ *stage, c *grpc.ClientConn, _ testgrpc.TestServiceClient) {
		interop.DoUnimplementedService(ctx, testgrpc.NewUnimplementedServiceClient(c))
	}},
	{"orca_per_rpc", func(ctx context.Context, _ *stage, _ *grpc.ClientConn, tc testgrpc.TestServiceClient) {
		interop.DoORCAPerRPCTest(ctx, tc)
	}},
	{"rpc_soak", func(ctx context.Context, s *stage, c *grpc.ClientConn, _ testgrpc.TestServiceClient) {
		interop.DoSoakTest(ctx, soak(s, func() (*grpc.ClientConn, func()) { return c, func() {} }))
	}},
	{"channel_soak", func(ctx context.Context, s *stage, _ *grpc.ClientConn, _ testgrpc.TestServiceClient) {
		interop.DoSoakTest(ctx, soak(s, func() (*grpc.ClientConn, func()) {
			c, err := grpc.NewClient("unix://"+s.path("down"), s.options()...)
			if err != nil {
				panic(err)
			}
			return c, func() { _ = c.Close() }
		}))
	}},
}

func simple(f func(ctx context.Context, tc testgrpc.TestServiceClient, args ...grpc.CallOption)) func(context.Context, *stage, *grpc.ClientConn, testgrpc.TestServiceClient) {
	return func(ctx context.Context, _ *stage, _ *grpc.ClientConn, tc testgrpc.TestServiceClient) { f(ctx, tc) }
}

func soak(s *stage, channel func() (*grpc.ClientConn, func())) interop.SoakTestConfig {
	return interop.SoakTestConfig{
		RequestSize: 271828, ResponseSize: 314159, PerIterationMaxAcceptableLatency: 10 * time.Second, OverallTimeout: 30 * time.Second,
		ServerAddr: s.path("down"), NumWorkers: 2, Iterations: 10, MaxFailures: 0, ChannelForTest: channel,
	}
}

// metrics makes a client that keeps what servers say of their load, which the orca cases look at.
const metrics = `{"loadBalancingConfig": [{"test_backend_metrics_load_balancer": {}}]}`

func TestCases(t *testing.T) {
	each(t, "{match: {prefix: /, grpc: {}}, route: {cluster: up}}", nil, func(t *testing.T, s *stage) {
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) {
				judge.now.Store(t)
				ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
				defer cancel()
				var more []grpc.DialOption
				if c.name == "orca_per_rpc" {
					more = append(more, grpc.WithDefaultServiceConfig(metrics))
				}
				conn := s.dial(t, more...)
				c.play(ctx, s, conn, testgrpc.NewTestServiceClient(conn))
			})
		}
	})
}
