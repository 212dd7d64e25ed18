package compressor

import (
	"bytes"
	"compress/gzip"
	"io"
	"strings"
	"testing"

	"github.com/andybalholm/brotli"
	brotliv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/compression/brotli/compressor/v3"
	gzipv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/compression/gzip/compressor/v3"
	zstdv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/compression/zstd/compressor/v3"
	compressorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/compressor/v3"
	"github.com/klauspost/compress/zstd"

	"github.com/outrigger-proxy/outrigger/filter/filtertest"
	"github.com/outrigger-proxy/outrigger/internal/fieldtest"
	"github.com/outrigger-proxy/outrigger/internal/header"
	"github.com/outrigger-proxy/outrigger/internal/protofile"
)

func TestFields(t *testing.T) {
	fieldtest.Check(t, "fields.golden", &compressorv3.Compressor{}, &gzipv3.Gzip{}, &brotliv3.Brotli{}, &zstdv3.Zstd{})
}

func build(g *filtertest.Stage, text string) (any, error) {
	g.T.Helper()
	p := &compressorv3.Compressor{}
	if _, err := protofile.Parse([]byte(text), protofile.YAML, p); err != nil {
		g.T.Fatal(err)
	}
	return filtertest.New(g, p, New)
}

func must(g *filtertest.Stage, text string) any {
	g.T.Helper()
	f, err := build(g, text)
	if err != nil {
		g.T.Fatal(err)
	}
	return f
}

func of(library string) string {
	upper := strings.ToUpper(library[:1]) + library[1:]
	return "{compressor_library: {name: x, typed_config: {'@type': type.googleapis.com/envoy.extensions.compression." + library + ".compressor.v3." + upper + "}}}"
}

func decode(t *testing.T, encoding, body string) string {
	t.Helper()
	var r io.Reader = strings.NewReader(body)
	var err error
	switch encoding {
	case "gzip":
		r, err = gzip.NewReader(r)
	case "br":
		r = brotli.NewReader(r)
	case "zstd":
		var d *zstd.Decoder
		d, err = zstd.NewReader(r)
		r = d
	}
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestBodies(t *testing.T) {
	filtertest.Each(t, func(g *filtertest.Stage) {
		long := strings.Repeat("a long body, ", 10000)
		for encoding, library := range map[string]string{"gzip": "gzip", "br": "brotli", "zstd": "zstd"} {
			g.Use(must(g, of(library)))
			for range 2 { // the second one uses the encoder of the first
				for _, body := range [][]string{{long}, {"one ", "", "two", "", "", " three"}, {"x"}} {
					out := g.Serve(&filtertest.Play{Head: []string{"accept-encoding: " + encoding}, Answer: []string{"content-type: text/plain"}, AnswerBody: body})
					if out.Err != nil || out.Get("content-encoding") != encoding {
						g.T.Fatalf("%s: %v, %v", encoding, out.Head, out.Err)
					}
					if got := decode(g.T, encoding, out.Body); got != strings.Join(body, "") {
						g.T.Errorf("%s: %d bytes came out of %d", encoding, len(got), len(strings.Join(body, "")))
					}
				}
			}
		}
	})
}

func TestWhatIsCompressed(t *testing.T) {
	body := strings.Repeat("x", 100)
	for _, c := range []struct {
		name, config, accept string
		answer               []string
		status               int
		want                 string // content-encoding, vary, etag
	}{
		{"a page", "", "gzip", []string{"content-type: text/html; charset=utf-8", "etag: \"a\""}, 200, "gzip Accept-Encoding "},
		{"a weak etag", "", "gzip", []string{"etag: W/\"a\""}, 200, "gzip Accept-Encoding W/\"a\""},
		{"an etag to be weakened", "weaken_etag_on_compress: true", "gzip", []string{"etag: \"a\""}, 200, "gzip Accept-Encoding W/\"a\""},
		{"disabled by etag", "disable_on_etag_header: true", "gzip", []string{"etag: \"a\""}, 200, "  \"a\""},
		{"an image", "", "gzip", []string{"content-type: image/png"}, 200, "  "},
		{"a type of its own", "common_config: {content_type: [image/png]}", "gzip", []string{"content-type: image/png"}, 200, "gzip Accept-Encoding "},
		{"a type that matches", "common_config: {content_type_matcher: [{prefix: image/}]}", "gzip", []string{"content-type: image/x"}, 200, "gzip Accept-Encoding "},
		{"a type that does not match", "common_config: {content_type_matcher: [{prefix: image/}]}", "gzip", []string{"content-type: text/html"}, 200, "  "},
		{"encoded", "", "gzip", []string{"content-encoding: br"}, 200, "br  "},
		{"no-transform", "", "gzip", []string{"cache-control: public, no-transform"}, 200, "  "},
		{"a code that is left alone", "uncompressible_response_codes: [206]", "gzip", nil, 206, "  "},
		{"too short", "common_config: {min_content_length: 101}", "gzip", []string{"content-length: 100"}, 200, "  "},
		{"long enough", "common_config: {min_content_length: 100}", "gzip", []string{"content-length: 100"}, 200, "gzip Accept-Encoding "},
		{"no length that is one", "", "gzip", []string{"content-length: x"}, 200, "  "},
		{"not accepted", "", "deflate", []string{"vary: cookie"}, 200, " cookie, Accept-Encoding "},
		{"vary already", "", "gzip", []string{"vary: accept-encoding"}, 200, "gzip accept-encoding "},
		{"anything is accepted", "", "*", nil, 200, "gzip Accept-Encoding "},
		{"as it is", "", "identity, gzip;q=0.5", nil, 200, " Accept-Encoding "},
		{"nonsense", "", "gzip;q=7", nil, 200, " Accept-Encoding "},
		{"off", "common_config: {enabled: {default_value: false, runtime_key: k}}", "gzip", nil, 200, "gzip Accept-Encoding "}, // there is no runtime here
	} {
		filtertest.Each(t, func(g *filtertest.Stage) {
			g.Use(must(g, of("gzip")[:len(of("gzip"))-1]+", response_direction_config: {"+c.config+"}}"))
			out := g.Serve(&filtertest.Play{Head: []string{"accept-encoding: " + c.accept}, Status: c.status, Answer: c.answer, AnswerBody: []string{body}})
			if got := out.Get("content-encoding") + " " + out.Get("vary") + " " + out.Get("etag"); got != c.want {
				g.T.Errorf("%s: %q, want %q", c.name, got, c.want)
			}
			if out.Get("content-encoding") == "gzip" && (out.Get("content-length") != "" || decode(g.T, "gzip", out.Body) != body) {
				g.T.Errorf("%s: %v", c.name, out)
			}
		})
	}
}

func TestSeveralCompressors(t *testing.T) {
	filtertest.Each(t, func(g *filtertest.Stage) {
		g.Use(must(g, of("brotli")), must(g, of("zstd")), must(g, of("gzip")))
		for accept, want := range map[string]string{
			"br": "br", "gzip": "gzip", "gzip, br": "gzip", "br, gzip": "br", "gzip;q=0.5, br;q=0.4": "gzip", "gzip;q=0.1, zstd": "zstd", "*": "br",
			"gzip;q=0, *": "br", "": "", "deflate": "",
		} {
			out := g.Serve(&filtertest.Play{Head: []string{"accept-encoding: " + accept}, AnswerBody: []string{"body"}})
			if got := out.Get("content-encoding"); got != want {
				g.T.Errorf("%q: %q, want %q", accept, got, want)
			}
			if want != "" && decode(g.T, want, out.Body) != "body" {
				g.T.Errorf("%q: the body has changed", accept)
			}
		}
	})
}

func TestRefused(t *testing.T) {
	filtertest.Each(t, func(g *filtertest.Stage) {
		gz := of("gzip")[:len(of("gzip"))-1]
		for want, text := range map[string]string{
			"request_direction_config: requests":          gz + ", request_direction_config: {}}",
			"status_header_enabled":                       gz + ", response_direction_config: {status_header_enabled: true}}",
			"didn't find a registered implementation for": "{compressor_library: {name: x, typed_config: {'@type': type.googleapis.com/google.protobuf.Empty}}}",
			"dictionary: ":                                "{compressor_library: {name: x, typed_config: {'@type': type.googleapis.com/envoy.extensions.compression.zstd.compressor.v3.Zstd, dictionary: {inline_string: x}}}}",
		} {
			if _, err := build(g, text); err == nil || !strings.Contains(err.Error(), want) {
				g.T.Errorf("%s: %v", text, err)
			}
		}
		if _, err := build(g, gz+", request_direction_config: {common_config: {enabled: {default_value: false}}}}"); err != nil {
			g.T.Error(err)
		}
	})
}

func TestWhatIsNotCompressedCostsNothing(t *testing.T) {
	filtertest.Each(t, func(g *filtertest.Stage) {
		g.Use(must(g, of("gzip")))
		if n := g.Allocs(&filtertest.Play{AnswerBody: []string{"x"}}); n > 0 {
			g.T.Errorf("%v allocations", n)
		}
	})
}

func FuzzAccept(f *testing.F) {
	for _, s := range []string{"gzip", "br;q=0.1, *;q=0", ";;q=", "identity", ",,"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, accept string) {
		gz := &Filter{settings: settings{library: &library{encoding: "gzip"}}}
		if c := choose(accept, []*Filter{gz}, &header.Map{}); c.kind == named && !bytes.Contains(bytes.ToLower([]byte(accept)), []byte("gzip")) {
			t.Errorf("%q chooses gzip", accept)
		}
	})
}
