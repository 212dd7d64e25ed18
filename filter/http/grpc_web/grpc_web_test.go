package grpcweb

import (
	"encoding/base64"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	grpcwebv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/grpc_web/v3"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/filter/filtertest"
	"github.com/outrigger-proxy/outrigger/internal/fieldtest"
	"github.com/outrigger-proxy/outrigger/internal/grpc"
)

func TestFields(t *testing.T) { fieldtest.Check(t, "fields.golden", &grpcwebv3.GrpcWeb{}) }

const (
	isGRPC = "content-type: application/grpc"
	asWeb  = "content-type: application/grpc-web+proto"
	asText = "content-type: application/grpc-web-text+proto"
)

func message(flags byte, text string) string {
	return string(grpc.AppendHead(nil, flags, len(text))) + text
}

func encode(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }

// upstreamHead is what the upstream gets, without the body.
const upstreamHead = "content-type: application/grpc te: trailers grpc-accept-encoding: identity "

func TestTranslation(t *testing.T) {
	trailers := []string{"grpc-status: 0", "grpc-message: fine", "x-bin: AAE="}
	frame := message(0x80, "grpc-status:0\r\ngrpc-message:fine\r\nx-bin:AAE=\r\n")
	reply := message(0, "reply") + message(1, "more")
	counted := map[string]uint64{"p.S.M.0": 1, "p.S.M.success": 1, "p.S.M.total": 1}
	gone := errors.New("gone")
	for name, c := range map[string]struct {
		play    filtertest.Play
		request string
		status  int
		head    []string
		body    string
		err     error
		stats   map[string]uint64
	}{
		"binary": {
			filtertest.Play{Path: "/p.S/M", Head: []string{"content-type: application/grpc-web", "content-length: 9"}, Body: []string{"a"}, Answer: []string{isGRPC}, AnswerBody: []string{reply}, AnswerTrailer: trailers},
			upstreamHead + "a", 200,
			[]string{asWeb},
			reply + frame, nil, counted,
		},
		"an encoding that the client names": {
			filtertest.Play{Path: "/x", Head: []string{"content-type: application/grpc-web+proto", "grpc-accept-encoding: gzip"}, Body: []string{"a"}, Answer: []string{isGRPC}, AnswerBody: []string{}},
			"content-type: application/grpc grpc-accept-encoding: gzip te: trailers a", 200,
			[]string{asWeb},
			"", nil, nil,
		},
		"text": {
			filtertest.Play{
				Path: "/p.S/M", Head: []string{"content-type: application/grpc-web-text", "accept: application/grpc-web-text"}, Body: []string{encode("ab") + encode("cdef"), "", "QU", "JD"},
				Answer: []string{isGRPC, "content-length: 99"}, AnswerBody: []string{reply[:2], reply[2:3], "", reply[3:]}, AnswerTrailer: trailers,
			},
			"content-type: application/grpc accept: application/grpc-web-text te: trailers grpc-accept-encoding: identity abcdefABC",
			200,
			[]string{asText},
			encode(message(0, "reply")) + encode(message(1, "more")) + encode(frame), nil, counted,
		},
		"text, byte by byte": {
			filtertest.Play{
				Path: "/p.S/M", Head: []string{asText, "accept: application/grpc-web-text+proto"}, Body: strings.Split(encode("abcd"), ""),
				Answer: []string{isGRPC}, AnswerBody: strings.Split(reply, ""), AnswerTrailer: trailers,
			},
			"content-type: application/grpc accept: application/grpc-web-text+proto te: trailers grpc-accept-encoding: identity abcd",
			200,
			[]string{asText},
			encode(message(0, "reply")) + encode(message(1, "more")) + encode(frame), nil, counted,
		},
		"text that is cut off": {
			filtertest.Play{Path: "/p.S/M", Head: []string{asText}, Body: []string{"QUJDR"}},
			"", 400,
			[]string{asWeb, "content-length: 0", "grpc-message: Bad gRPC-web request, invalid base64 data.", "grpc-status: 13"},
			"", nil, nil,
		},
		"text that is none": {
			filtertest.Play{Path: "/p.S/M", Head: []string{asText}, Body: []string{"QUJ", "\n"}},
			"", 400,
			[]string{asWeb, "content-length: 0", "grpc-message: Bad gRPC-web request, invalid base64 data.", "grpc-status: 13"},
			"", nil, nil,
		},
		"trailers only": {
			filtertest.Play{Path: "/p.S/M", Head: []string{asWeb}, Answer: []string{isGRPC, "grpc-status: 5", "content-length: 0"}},
			upstreamHead, 200,
			[]string{asWeb, "grpc-status: 5"},
			"", nil,
			map[string]uint64{"p.S.M.5": 1, "p.S.M.failure": 1, "p.S.M.total": 1},
		},
		"no trailers": {
			filtertest.Play{Path: "/p.S/M", Head: []string{asWeb}, Answer: []string{isGRPC}, AnswerBody: []string{reply}},
			upstreamHead, 200,
			[]string{asWeb},
			reply, nil, nil,
		},
		"an upstream that speaks gRPC-Web": {
			filtertest.Play{Path: "/p.S/M", Head: []string{asWeb}, Answer: []string{"content-type: application/grpc-web ; charset=x"}, AnswerBody: []string{reply + frame}},
			upstreamHead, 200,
			[]string{asWeb},
			reply + frame, nil, nil,
		},
		"an answer that is no gRPC": {
			filtertest.Play{Path: "/p.S/M", Head: []string{asWeb}, Status: 503, Answer: []string{"content-type: text/plain"}, AnswerBody: []string{"not ", "", "100%"}},
			upstreamHead, 503,
			[]string{"content-length: 0", asWeb, "grpc-message: not 100%25", "grpc-status: 14"},
			"", nil, nil,
		},
		"a long answer that is no gRPC": {
			filtertest.Play{Path: "/p.S/M", Head: []string{asWeb}, Status: 404, AnswerBody: []string{strings.Repeat("a", 16000), strings.Repeat("b", 16000)}},
			upstreamHead, 404,
			[]string{"content-length: 0", asWeb, "grpc-message: " + strings.Repeat("a", 16000) + strings.Repeat("b", 384), "grpc-status: 12"},
			"", nil, nil,
		},
		"an answer that breaks": {
			filtertest.Play{Path: "/p.S/M", Head: []string{asWeb}, Answer: []string{isGRPC}, AnswerBody: []string{reply}, Break: gone},
			upstreamHead, 200,
			[]string{asWeb},
			reply, gone, nil,
		},
		"an answer that is no gRPC and breaks": {
			filtertest.Play{Path: "/p.S/M", Head: []string{asWeb}, Status: 500, AnswerBody: []string{"x"}, Break: gone},
			upstreamHead, 503,
			[]string{"content-length: 95", "content-type: text/plain"},
			"upstream connect error or disconnect/reset before headers. reset reason: connection termination", nil, nil,
		},
		"no gRPC-Web": {
			filtertest.Play{Path: "/p.S/M", Head: []string{"content-type: application/json"}, Body: []string{"{}"}, Answer: []string{"content-length: 2"}, AnswerBody: []string{"{}"}},
			"content-type: application/json {}", 200,
			[]string{"content-length: 2"},
			"{}", nil, nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			filtertest.Each(t, func(g *filtertest.Stage) {
				f, err := filtertest.New(g, &grpcwebv3.GrpcWeb{}, New)
				if err != nil {
					g.T.Fatal(err)
				}
				g.Use(f)
				p, request := c.play, ""
				p.Upstream = func(s *filter.Stream, body string) {
					request = ""
					for _, f := range s.Request.Header.All() {
						request += f.Name + ": " + f.Value + " "
					}
					request += body
				}
				seen := g.Serve(&p)
				slices.Sort(c.head)
				if request != c.request {
					g.T.Errorf("the upstream gets %q, not %q", request, c.request)
				}
				if seen.Status != c.status || !slices.Equal(seen.Head, c.head) || seen.Body != c.body || seen.Err != c.err || len(seen.Trailer) > 0 {
					g.T.Errorf("%d %q %q %q %v, not %d %q %q %v", seen.Status, seen.Head, seen.Body, seen.Trailer, seen.Err, c.status, c.head, c.body, c.err)
				}
				if got := g.Stats("cluster.up.grpc-web."); !maps.Equal(got, c.stats) {
					g.T.Errorf("counted %v, not %v", got, c.stats)
				}
			})
		})
	}
}

// FuzzDecode holds that a body is understood in the same way however it is cut.
func FuzzDecode(f *testing.F) {
	f.Add("QUJD", 1)
	f.Add("QQ==QUI=", 5)
	f.Add("=", 0)
	f.Fuzz(func(t *testing.T, body string, at int) {
		if at < 0 || at > len(body) {
			return
		}
		whole, one := decode(body)
		cut, two := decode(body[:at], body[at:])
		if one != two || one && whole != cut {
			t.Fatalf("%q %v in one piece, %q %v in two", whole, one, cut, two)
		}
		if strings.IndexByte(body, '=') < 0 {
			std, err := base64.StdEncoding.Strict().DecodeString(body)
			if one != (err == nil && !strings.ContainsAny(body, "\r\n")) || one && string(std) != whole {
				t.Fatalf("%q is %q %v, not %q %v", body, whole, one, std, err)
			}
		}
	})
}

func decode(pieces ...string) (string, bool) {
	var d decoder
	var out strings.Builder
	for _, p := range pieces {
		if err := d.decode([]byte(p)); err != nil {
			return "", false
		}
		out.Write(d.out)
	}
	return out.String(), d.have == 0
}

// FuzzEncode holds that what is encoded is the body, and that each frame is for itself.
func FuzzEncode(f *testing.F) {
	f.Add([]byte(message(0, "abcd")), 3)
	f.Fuzz(func(t *testing.T, body []byte, at int) {
		if at < 0 || at > len(body) {
			return
		}
		var e encoder
		out := ""
		for _, p := range [][]byte{body[:at], body[at:]} {
			e.encode(p)
			out += string(e.out)
		}
		plain, ok := decode(out)
		if !ok || plain+string(e.rest[:e.have]) != string(body) {
			t.Fatalf("%q becomes %q, which is %q and %q", body, out, plain, e.rest[:e.have])
		}
	})
}

func TestNoAllocation(t *testing.T) {
	filtertest.Each(t, func(g *filtertest.Stage) {
		f, err := filtertest.New(g, &grpcwebv3.GrpcWeb{}, New)
		if err != nil {
			g.T.Fatal(err)
		}
		g.Use(f)
		for _, p := range []*filtertest.Play{
			{Path: "/", Head: []string{"content-type: text/plain"}, Body: []string{"a"}, AnswerBody: []string{"b"}},
			{Path: "/p.S/M", Head: []string{asText, "accept: application/grpc-web-text"}, Body: []string{"QUJD"}, Answer: []string{isGRPC}, AnswerBody: []string{message(0, "b")}, AnswerTrailer: []string{"grpc-status: 0"}},
		} {
			if n := g.Allocs(p); n != 0 {
				g.T.Errorf("%v allocations for %v", n, p.Head)
			}
		}
	})
}
