package grpcstats

import (
	"errors"
	"maps"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	grpcstatsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/grpc_stats/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/outrigger-proxy/outrigger/filter/filtertest"
	"github.com/outrigger-proxy/outrigger/internal/fieldtest"
	"github.com/outrigger-proxy/outrigger/internal/format"
	"github.com/outrigger-proxy/outrigger/internal/grpc"
)

func TestFields(t *testing.T) {
	fieldtest.Check(t, "fields.golden", &grpcstatsv3.FilterConfig{})
}

// message is a body of one message.
func message(flags byte, text string) string {
	return string(grpc.AppendHead(nil, flags, len(text))) + text
}

func all() *grpcstatsv3.FilterConfig {
	return &grpcstatsv3.FilterConfig{PerMethodStatSpecifier: &grpcstatsv3.FilterConfig_StatsForAllMethods{StatsForAllMethods: wrapperspb.Bool(true)}}
}

func listed(service string, methods ...string) *grpcstatsv3.FilterConfig {
	return &grpcstatsv3.FilterConfig{PerMethodStatSpecifier: &grpcstatsv3.FilterConfig_IndividualMethodStatsAllowlist{
		IndividualMethodStatsAllowlist: &corev3.GrpcMethodList{Services: []*corev3.GrpcMethodList_Service{{Name: service, MethodNames: methods}}},
	}}
}

const (
	isGRPC   = "content-type: application/grpc"
	isUnary  = "connect-protocol-version: 1"
	isStream = "content-type: application/connect+json"
)

func TestCounts(t *testing.T) {
	two := []string{message(0, "abc") + message(1, "")[:2], "", message(1, "")[2:]}
	dotless := all()
	dotless.ReplaceDotsInGrpcServiceName = true
	timed := all()
	timed.EnableUpstreamStats = true
	emitting := listed("p.S")
	emitting.EmitFilterState = true
	for name, c := range map[string]struct {
		config *grpcstatsv3.FilterConfig
		play   filtertest.Play
		want   map[string]uint64
		state  string
	}{
		"a call": {
			all(),
			filtertest.Play{Path: "/p.S/M", Head: []string{isGRPC}, Body: two, Answer: []string{isGRPC}, AnswerBody: two, AnswerTrailer: []string{"grpc-status: 0"}},
			map[string]uint64{"p.S.M.0": 1, "p.S.M.success": 1, "p.S.M.total": 1, "p.S.M.request_message_count": 2, "p.S.M.response_message_count": 2},
			"-",
		},
		"trailers only": {
			timed,
			filtertest.Play{Path: "/p.S/M?q", Head: []string{isGRPC}, Body: two, Answer: []string{isGRPC, "grpc-status: 5"}},
			map[string]uint64{"p.S.M.5": 1, "p.S.M.failure": 1, "p.S.M.total": 1, "p.S.M.request_message_count": 2, "p.S.M.upstream_rq_time": 1},
			"-",
		},
		"no dots": {
			dotless,
			filtertest.Play{Path: "/p.S/M", Head: []string{isGRPC}, Answer: []string{isGRPC, "grpc-status: 0"}},
			map[string]uint64{"p_S.M.0": 1, "p_S.M.success": 1, "p_S.M.total": 1},
			"-",
		},
		"listed, with times and state": {
			&grpcstatsv3.FilterConfig{EmitFilterState: true, EnableUpstreamStats: true, PerMethodStatSpecifier: listed("p.S", "M").PerMethodStatSpecifier},
			filtertest.Play{Path: "/p.S/M", Head: []string{isGRPC}, Body: two, Answer: []string{isGRPC}, AnswerBody: two[:1], AnswerTrailer: []string{"grpc-status: 14"}},
			map[string]uint64{
				"p.S.M.14": 1, "p.S.M.failure": 1, "p.S.M.total": 1, "p.S.M.request_message_count": 2, "p.S.M.response_message_count": 2, "p.S.M.upstream_rq_time": 1,
			},
			`2,2 {"requestMessageCount":"2","responseMessageCount":"2"}`,
		},
		"not listed": {
			emitting,
			filtertest.Play{Path: "/p.S/Other", Head: []string{isGRPC}, Body: two[:1], Answer: []string{isGRPC}, AnswerBody: []string{message(0, "a")}},
			map[string]uint64{"request_message_count": 2, "response_message_count": 1},
			`2,1 {"requestMessageCount":"2","responseMessageCount":"1"}`,
		},
		"no names by default": {
			&grpcstatsv3.FilterConfig{},
			filtertest.Play{Path: "/p.S/M", Head: []string{isGRPC}, Answer: []string{"grpc-status: 0"}},
			map[string]uint64{"0": 1, "success": 1, "total": 1},
			"-",
		},
		"no gRPC": {
			all(), filtertest.Play{Path: "/p.S/M", Head: []string{"content-type: application/grpc-web"}, Body: two, Answer: []string{"grpc-status: 0"}}, nil, "-",
		},
		"the path of no method": {
			all(), filtertest.Play{Path: "/M", Head: []string{isGRPC}, Body: two, Answer: []string{"grpc-status: 0"}}, nil, "-",
		},
		"an answer that is no gRPC": {
			all(),
			filtertest.Play{Path: "/p.S/M", Head: []string{isGRPC}, Status: 503, Answer: []string{isGRPC}, AnswerBody: two},
			nil, "-",
		},
		"an answer that breaks": {
			all(),
			filtertest.Play{Path: "/p.S/M", Head: []string{isGRPC}, Answer: []string{isGRPC}, AnswerBody: two[:1], Break: errors.New("gone")},
			map[string]uint64{"p.S.M.response_message_count": 2},
			"-",
		},
		"Connect, unary": {
			timed,
			filtertest.Play{Path: "/p.S/M", Head: []string{isUnary}, Body: []string{"{", "}"}, AnswerBody: []string{"{}"}},
			map[string]uint64{
				"p.S.M.request_message_count": 1, "p.S.M.response_message_count": 1, "p.S.M.success": 1, "p.S.M.total": 1, "p.S.M.upstream_rq_time": 1,
			},
			"-",
		},
		"Connect, unary, failing": {
			all(),
			filtertest.Play{Path: "/p.S/M", Head: []string{isUnary}, Status: 404, AnswerBody: []string{"{}"}},
			map[string]uint64{"p.S.M.response_message_count": 1, "p.S.M.failure": 1, "p.S.M.total": 1},
			"-",
		},
		"Connect, streaming": {
			all(),
			filtertest.Play{
				Path: "/p.S/M", Head: []string{isStream}, Body: two, Answer: []string{isStream},
				AnswerBody: []string{message(0, "abc") + message(2, "{}")[:6], message(2, "{}")[6:] + message(0, "ignored")},
			},
			map[string]uint64{"p.S.M.request_message_count": 2, "p.S.M.response_message_count": 1, "p.S.M.success": 1, "p.S.M.total": 1},
			"-",
		},
		"Connect, streaming, failing": {
			all(),
			filtertest.Play{Path: "/p.S/M", Head: []string{isStream}, Answer: []string{isStream}, AnswerBody: []string{message(2, `{"error":{"code":"aborted"}}`)}},
			map[string]uint64{"p.S.M.failure": 1, "p.S.M.total": 1},
			"-",
		},
		"Connect, streaming, cut off": {
			all(),
			filtertest.Play{Path: "/p.S/M", Head: []string{isStream}, Answer: []string{isStream}, AnswerBody: []string{message(2, "{}")[:6]}},
			map[string]uint64{"p.S.M.failure": 1, "p.S.M.total": 1},
			"-",
		},
	} {
		t.Run(name, func(t *testing.T) {
			filtertest.Each(t, func(g *filtertest.Stage) {
				f, err := filtertest.New(g, c.config, New)
				if err != nil {
					g.T.Fatal(err)
				}
				g.Use(f)
				p := c.play
				seen := g.Serve(&p)
				if seen.Err != c.play.Break {
					g.T.Error(seen.Err)
				}
				if got := g.Stats("cluster.up.grpc."); !maps.Equal(got, c.want) {
					g.T.Errorf("counted %v, not %v", got, c.want)
				}
				if got := state(g); got != c.state {
					g.T.Errorf("the state is %s, not %s", got, c.state)
				}
			})
		})
	}
}

// state is what an access log would print of the filter state, in each form.
func state(g *filtertest.Stage) string {
	const key = "%FILTER_STATE(envoy.filters.http.grpc_stats:"
	t, err := format.Compile(key+"PLAIN)% "+key+"TYPED)%", format.Options{})
	if err != nil {
		g.T.Fatal(err)
	}
	if text := string(t.Append(nil, &g.Stream.Stream)); text != "- -" {
		return text
	}
	return "-"
}

// TestNoCluster follows a call that leads nowhere, for the state alone.
func TestNoCluster(t *testing.T) {
	filtertest.Each(t, func(g *filtertest.Stage) {
		p := all()
		p.EmitFilterState = true
		f, err := filtertest.New(g, p, New)
		if err != nil {
			g.T.Fatal(err)
		}
		g.Use(f)
		g.Cluster = nil
		g.Serve(&filtertest.Play{Path: "/p.S/M", Head: []string{isGRPC}, Body: []string{message(0, "a")}, Answer: []string{"grpc-status: 0"}})
		if got := state(g); got != `1,0 {"requestMessageCount":"1"}` {
			g.T.Error(got)
		}
	})
}

func TestNoAllocation(t *testing.T) {
	filtertest.Each(t, func(g *filtertest.Stage) {
		f, err := filtertest.New(g, all(), New)
		if err != nil {
			g.T.Fatal(err)
		}
		g.Use(f)
		m := []string{message(0, "a")}
		p := &filtertest.Play{Path: "/p.S/M", Head: []string{isGRPC}, Body: m, Answer: []string{isGRPC}, AnswerBody: m, AnswerTrailer: []string{"grpc-status: 0"}}
		if n := g.Allocs(p); n != 0 {
			g.T.Errorf("%v allocations", n)
		}
	})
}
