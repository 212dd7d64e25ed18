package cluster

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	datav3 "github.com/cncf/xds/go/xds/data/orca/v3"
	orcav3 "github.com/cncf/xds/go/xds/service/orca/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/outrigger-proxy/outrigger/internal/control"
	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/stats"
	"github.com/outrigger-proxy/outrigger/internal/stream"
	"github.com/outrigger-proxy/outrigger/lb"
)

// reports is a host that tells of its load.
type reports struct {
	orcav3.UnimplementedOpenRcaServiceServer

	rps  float64       // 0: a report that says nothing; less: it does not tell at all
	seen chan []string // authority and interval of each stream
}

func (h *reports) StreamCoreMetrics(q *orcav3.OrcaLoadReportRequest, s orcav3.OpenRcaService_StreamCoreMetricsServer) error {
	if h.rps < 0 {
		return status.Error(codes.Unimplemented, "no")
	}
	md, _ := metadata.FromIncomingContext(s.Context())
	h.seen <- []string{strings.Join(md.Get(":authority"), ","), q.GetReportInterval().AsDuration().String()}
	_ = s.Send(&datav3.OrcaLoadReport{RpsFractional: h.rps, CpuUtilization: 1})
	<-s.Context().Done()
	return nil
}

// listen serves it until the test ends, and returns its port.
func (h *reports) listen(t *testing.T) int {
	t.Helper()
	h.seen = make(chan []string, 9)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	orcav3.RegisterOpenRcaServiceServer(s, h)
	ended := make(chan struct{})
	go func() { _ = s.Serve(l); close(ended) }() // ends with Stop
	t.Cleanup(func() { s.Stop(); <-ended })
	return l.Addr().(*net.TCPAddr).Port
}

func reporting(fields string) string {
	return typed(policies+"client_side_weighted_round_robin.v3.ClientSideWeightedRoundRobin", "blackout_period: 0s, enable_oob_load_report: true"+fields)
}

func TestOutOfBandReports(t *testing.T) {
	hosts := []*reports{{rps: 10}, {rps: 30}, {}, {rps: -1}}
	var l []string
	for _, h := range hosts {
		l = append(l, fmt.Sprintf("{endpoint: {hostname: h.test, address: {socket_address: {address: 127.0.0.1, port_value: %d}}}}", h.listen(t)))
	}
	loop := control.New()
	w := &fiber.Worker{}
	m := NewManager(Env{Workers: []*fiber.Worker{w}, Stats: &stats.Store{}, Control: loop})
	if err := m.Add(read(t, reporting(", oob_reporting_period: 3s")+assignment("lb_endpoints: ["+strings.Join(l, ", ")+"]")), false); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { loop.Run(); close(ended) }() // ends with Stop
	loop.Do(func() { m.Start(func(then func()) { then() }, func() {}) })
	for _, h := range hosts[:3] {
		if got := <-h.seen; got[0] != "h.test" || got[1] != "3s" {
			t.Errorf("asked as %q", got)
		}
	}
	c := m.Get("c")
	s := c.reporter.stats
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	for ctx.Err() == nil && (s.Received.Value() < 3 || s.Errors.Value() < 1 || s.Terminated.Value() < 1) {
		loop.Do(func() {})
	}
	loop.Do(func() {
		c.reweigh()
		if s.Sessions.Value() != 4 || s.Failures.Value() != 0 || ctx.Err() != nil {
			t.Errorf("%d sessions, %d failures, %d reports", s.Sessions.Value(), s.Failures.Value(), s.Received.Value())
		}
		weights := map[uint32]int{}
		for _, h := range c.Hosts() {
			weights[h.LoadWeight()]++
		}
		if weights[10] != 1 || weights[30] != 1 || weights[20] != 2 {
			t.Errorf("weights %v", weights)
		}
		if m.Remove("c"); s.Sessions.Value() != 0 {
			t.Errorf("%d sessions are left", s.Sessions.Value())
		}
	})
	loop.Stop()
	<-ended
}

func TestOutOfBandOptions(t *testing.T) {
	m, _ := manager(&fiber.Worker{})
	if err := m.Add(read(t, reporting(", oob_reporting_config: {port_value: 81, authority: a.test, transport_socket_match_criteria: {v: x}}")+assignment(endpoints(""))), true); err != nil {
		t.Fatal(err)
	}
	c := m.Get("c")
	if o := c.config.lb.learning.stream; o.period != 10*time.Second || o.port != 81 || o.match["v"] != "x" {
		t.Errorf("%+v", o)
	}
	if got := c.reporter.authority("h", stream.Address{}); got != "a.test" {
		t.Error(got)
	}
	c.reporter.o.authority = ""
	if got := c.reporter.authority("", stream.Address{Path: "/s"}); got != "c" {
		t.Error(got)
	}
	if got := c.reporter.authority("", c.Hosts()[0].Address); got != "10.0.0.1:80" {
		t.Error(got)
	}
	if h := c.Pick(&fiber.Worker{}, lb.Request{}); h == nil {
		t.Error("nobody")
	}
}
