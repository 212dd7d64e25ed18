package grpchttp1bridge

import (
	"errors"
	"slices"
	"strings"
	"testing"

	bridgev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/grpc_http1_bridge/v3"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/filter/filtertest"
	"github.com/outrigger-proxy/outrigger/internal/fieldtest"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

func TestFields(t *testing.T) { fieldtest.Check(t, "fields.golden", &bridgev3.Config{}) }

const isGRPC = "content-type: application/grpc"

func TestBridge(t *testing.T) {
	upgrading := &bridgev3.Config{UpgradeProtobufToGrpc: true}
	const reply = "\x00\x00\x00\x00\x05reply"
	gone := errors.New("gone")
	for name, c := range map[string]struct {
		config  *bridgev3.Config
		play    filtertest.Play
		request string // path, headers and body as the upstream gets them
		status  int
		head    []string
		body    string
		err     error
	}{
		"a call": {
			&bridgev3.Config{},
			filtertest.Play{
				Path: "/p.S/M?q", Head: []string{isGRPC}, Body: []string{"a", "", "b"},
				Answer: []string{isGRPC}, AnswerBody: []string{reply[:3], "", reply[3:]}, AnswerTrailer: []string{"grpc-status: 0", "grpc-message: fine"},
			},
			"/p.S/M?q " + isGRPC + " ab", 200,
			[]string{"content-length: 10", isGRPC, "grpc-message: fine", "grpc-status: 0"},
			reply, nil,
		},
		"a call that fails": {
			&bridgev3.Config{IgnoreQueryParameters: true},
			filtertest.Play{Path: "/p.S/M?q", Head: []string{isGRPC}, Answer: []string{isGRPC}, AnswerBody: []string{}, AnswerTrailer: []string{"grpc-status: 5"}},
			"/p.S/M " + isGRPC + " ", 503,
			[]string{"content-length: 0", isGRPC, "grpc-status: 5"},
			"", nil,
		},
		"a status that is no number": {
			&bridgev3.Config{},
			filtertest.Play{Path: "/p.S/M", Head: []string{isGRPC}, Answer: []string{isGRPC}, AnswerBody: []string{}, AnswerTrailer: []string{"grpc-status: x"}},
			"/p.S/M " + isGRPC + " ", 503,
			[]string{"content-length: 0", isGRPC, "grpc-status: x"},
			"", nil,
		},
		"trailers only": {
			&bridgev3.Config{},
			filtertest.Play{Path: "/p.S/M", Head: []string{isGRPC}, Answer: []string{isGRPC, "grpc-status: 7"}},
			"/p.S/M " + isGRPC + " ", 200,
			[]string{isGRPC, "grpc-status: 7"},
			"", nil,
		},
		"no trailers": {
			&bridgev3.Config{},
			filtertest.Play{Path: "/p.S/M", Head: []string{isGRPC}, Answer: []string{isGRPC}, AnswerBody: []string{reply}},
			"/p.S/M " + isGRPC + " ", 200,
			[]string{isGRPC},
			reply, nil,
		},
		"HTTP/2": {
			&bridgev3.Config{IgnoreQueryParameters: true},
			filtertest.Play{Protocol: stream.HTTP2, Path: "/p.S/M?q", Head: []string{isGRPC}, Answer: []string{isGRPC, "grpc-status: 7"}},
			"/p.S/M?q " + isGRPC + " ", 200,
			[]string{isGRPC, "grpc-status: 7"},
			"", nil,
		},
		"no gRPC": {
			&bridgev3.Config{IgnoreQueryParameters: true},
			filtertest.Play{Path: "/p.S/M?q", Head: []string{"content-type: text/plain"}, Answer: []string{"grpc-status: 7"}},
			"/p.S/M?q content-type: text/plain ", 200,
			[]string{"grpc-status: 7"},
			"", nil,
		},
		"an answer that breaks": {
			&bridgev3.Config{},
			filtertest.Play{Path: "/p.S/M", Head: []string{isGRPC}, Answer: []string{isGRPC}, AnswerBody: []string{reply}, Break: gone},
			"/p.S/M " + isGRPC + " ", 200,
			[]string{isGRPC, "grpc-message: upstream connect error or disconnect/reset before headers. reset reason: connection termination", "grpc-status: 14"},
			"", nil,
		},
		"protobuf": {
			upgrading,
			filtertest.Play{
				Path: "/p.S/M", Head: []string{"content-type: application/x-protobuf", "content-length: 2"}, Body: []string{"a", "", "b"},
				Answer: []string{isGRPC}, AnswerBody: []string{reply[:3], "", reply[3:]}, AnswerTrailer: []string{"grpc-status: 0"},
			},
			"/p.S/M " + isGRPC + " \x00\x00\x00\x00\x02ab", 200,
			[]string{"content-length: 5", isGRPC, "grpc-status: 0"},
			"reply", nil,
		},
		"protobuf, and no trailers": {
			upgrading,
			filtertest.Play{
				Path: "/p.S/M", Head: []string{"content-type: application/x-protobuf"}, Body: []string{"ab"},
				Answer: []string{isGRPC, "content-length: 10"}, AnswerBody: []string{reply},
			},
			"/p.S/M " + isGRPC + " \x00\x00\x00\x00\x02ab", 200,
			[]string{"content-length: 10", isGRPC},
			reply, nil,
		},
		"protobuf that is not asked for": {
			&bridgev3.Config{},
			filtertest.Play{Path: "/p.S/M", Head: []string{"content-type: application/x-protobuf"}, Body: []string{"ab"}},
			"/p.S/M content-type: application/x-protobuf ab", 200, nil, "", nil,
		},
		"too much protobuf": {
			upgrading,
			filtertest.Play{Head: []string{"content-type: application/x-protobuf"}, Body: []string{strings.Repeat("a", 1<<20), "b"}},
			"", 413,
			[]string{"content-length: 17", "content-type: text/plain"},
			"Payload Too Large", nil,
		},
		"too much of an answer": {
			&bridgev3.Config{},
			filtertest.Play{Path: "/p.S/M", Head: []string{isGRPC}, Answer: []string{isGRPC}, AnswerBody: []string{strings.Repeat("a", 1<<20), "b"}},
			"/p.S/M " + isGRPC + " ", 200,
			[]string{isGRPC, "grpc-message: Internal Server Error", "grpc-status: 2"},
			"", nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			filtertest.Each(t, func(g *filtertest.Stage) {
				f, err := filtertest.New(g, c.config, New)
				if err != nil {
					g.T.Fatal(err)
				}
				g.Use(f)
				p, request := c.play, ""
				p.Upstream = func(s *filter.Stream, body string) {
					request = s.Request.Path + " "
					for _, f := range s.Request.Header.All() {
						request += f.Name + ": " + f.Value + " "
					}
					request += body
				}
				for range 2 { // the second time with the memory of the first
					seen := g.Serve(&p)
					if request != c.request {
						g.T.Errorf("the upstream gets %q, not %q", request, c.request)
					}
					if seen.Status != c.status || !slices.Equal(seen.Head, c.head) || seen.Body != c.body || seen.Err != c.err {
						g.T.Errorf("%d %q %.99q %v, not %d %q %q %v", seen.Status, seen.Head, seen.Body, seen.Err, c.status, c.head, c.body, c.err)
					}
				}
			})
		})
	}
}

// TestNoAllocation passes other traffic by, and bridges in the memory of the stream before.
func TestNoAllocation(t *testing.T) {
	filtertest.Each(t, func(g *filtertest.Stage) {
		f, err := filtertest.New(g, &bridgev3.Config{UpgradeProtobufToGrpc: true}, New)
		if err != nil {
			g.T.Fatal(err)
		}
		g.Use(f)
		for _, p := range []*filtertest.Play{
			{Path: "/", Head: []string{"content-type: text/plain"}, Body: []string{"a"}, AnswerBody: []string{"b"}},
			{Path: "/p.S/M", Head: []string{isGRPC}, Body: []string{"a"}, Answer: []string{isGRPC}, AnswerBody: []string{"b"}, AnswerTrailer: []string{"grpc-status: 0"}},
		} {
			if n := g.Allocs(p); n != 0 {
				g.T.Errorf("%v allocations for %v", n, p.Head)
			}
		}
	})
}
