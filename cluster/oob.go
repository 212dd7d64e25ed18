package cluster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	orcav3 "github.com/cncf/xds/go/xds/service/orca/v3"
	commonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/common/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/outrigger-proxy/outrigger/internal/orca"
	"github.com/outrigger-proxy/outrigger/internal/stats"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// outOfBand says how hosts are asked for load reports (xds.service.orca.v3.OpenRcaService), instead of reading those of responses.
type outOfBand struct {
	period    time.Duration
	port      uint16 // 0: that of the host
	authority string
	match     map[string]any // transport_socket_match_criteria; nil: none
}

// reportsByStream are the fields that policies have in common for that.
type reportsByStream interface {
	GetOobReportingPeriod() *durationpb.Duration
	GetOobReportingConfig() *commonv3.OrcaOobReportingConfig
}

func parseOutOfBand(p reportsByStream) (*outOfBand, error) {
	c := p.GetOobReportingConfig()
	if c.GetPortValue() > 65535 {
		return nil, refused("oob_reporting_config.port_value", "is out of range")
	}
	o := &outOfBand{period: duration(p.GetOobReportingPeriod(), 10*time.Second), port: uint16(c.GetPortValue()), authority: c.GetAuthority()}
	if m := c.GetTransportSocketMatchCriteria(); m != nil {
		o.match = m.AsMap()
	}
	return o, nil
}

// reportStats are lb_orca_oob.*
type reportStats struct {
	Sessions   stats.Gauge   `stat:"active_sessions"`
	Errors     stats.Counter `stat:"report_errors"`
	Received   stats.Counter `stat:"reports_received"`
	Failures   stats.Counter `stat:"stream_failures"`
	Terminated stats.Counter `stat:"stream_terminated"`
}

// reporter asks the hosts of a cluster for load reports. It belongs to the control loop.
type reporter struct {
	// set at construction
	c     *Cluster
	o     *outOfBand
	stats *reportStats
	// owned by the control loop
	started bool
}

// report makes the reporter of a cluster whose policy wants one.
func (c *Cluster) report() error {
	o := c.config.lb.learning.stream
	if o == nil {
		return nil
	}
	for _, t := range c.sockets.all() {
		if _, ok := t.(PlainSocket); !ok && t != (rawBuffer{}) {
			return fmt.Errorf("enable_oob_load_report: %w", errNotPlain)
		}
	}
	c.reporter = &reporter{c: c, o: o, stats: stats.New[reportStats](c.Codes.Sub("lb_orca_oob"))}
	return nil
}

// start asks the hosts that there are; those that come later are asked at once.
func (r *reporter) start() {
	r.started = true
	for _, m := range r.c.members {
		r.add(m)
	}
}

// add begins to ask a host, until it is dismissed.
func (r *reporter) add(m *member) {
	if !r.started || m.stopReports != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.stats.Sessions.Inc()
	m.stopReports = func() {
		cancel()
		r.stats.Sessions.Dec()
	}
	go r.run(ctx, m) // ends with stopReports
}

// Pauses between two streams: they grow while no report comes.
const (
	shortestPause = time.Second
	longestPause  = 2 * time.Minute
)

// run opens one stream after the other.
func (r *reporter) run(ctx context.Context, m *member) {
	for pause := shortestPause; ; pause = min(2*pause, longestPause) {
		n, err := r.listen(ctx, m)
		switch {
		case ctx.Err() != nil:
			return
		case status.Code(err) == codes.Unimplemented: // the host has none
			r.stats.Terminated.Inc()
			return
		case n > 0:
			pause = shortestPause
		}
		r.stats.Failures.Inc()
		t := time.NewTimer(pause/2 + rand.N(pause/2))
		select {
		case <-ctx.Done():
		case <-t.C:
		}
		t.Stop()
	}
}

// listen takes in the reports of one stream, and says how many there were.
func (r *reporter) listen(ctx context.Context, m *member) (n int, err error) {
	to := m.Target()
	if r.o.port != 0 && to.Address.Path == "" {
		to.Address = stream.Address{AddrPort: netip.AddrPortFrom(to.Address.Addr(), r.o.port)}
	}
	if r.o.match != nil {
		to.Socket = r.c.sockets.choose(stream.Metadata{matchNamespace: r.o.match}, nil)
	}
	dial := func(ctx context.Context, _ string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, r.c.config.connectTimeout)
		defer cancel()
		return dialPlain(ctx, to.Address, to.Socket, to.Hostname)
	}
	conn, err := grpc.NewClient("passthrough:///host", grpc.WithContextDialer(dial), grpc.WithAuthority(r.authority(to.Hostname, to.Address)),
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy())
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close() }()
	s, err := orcav3.NewOpenRcaServiceClient(conn).StreamCoreMetrics(ctx, &orcav3.OrcaLoadReportRequest{ReportInterval: durationpb.New(r.o.period)})
	if err != nil {
		return 0, err
	}
	for {
		p, err := s.Recv()
		if err != nil {
			return n, err
		}
		n++
		r.stats.Received.Inc()
		report := orca.Of(p)
		if r.c.config.lb.learning.learn(m, &report, r.c.m.now()) != nil {
			r.stats.Errors.Inc()
		}
	}
}

func (r *reporter) authority(hostname string, a stream.Address) string {
	switch {
	case r.o.authority != "":
		return r.o.authority
	case hostname != "":
		return hostname
	case a.Path == "":
		return a.String()
	}
	return r.c.Name
}
