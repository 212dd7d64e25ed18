package outlier

import (
	"strings"
	"testing"

	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/matcher/v3"

	"github.com/outrigger-proxy/outrigger/internal/protofile"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

func TestErrors(t *testing.T) {
	for text, want := range map[string]string{
		"any_match: true": "",
		"http_response_headers_match: {headers: [{name: ':status', string_match: {exact: '404'}}, {name: x, present_match: true}]}":               "",
		"and_match: {rules: [{any_match: true}, {http_request_headers_match: {}}]}":                                                               "and_match.rules[1].",
		"not_match: {http_response_generic_body_match: {patterns: [{string_match: x}]}}":                                                          "not_match.",
		"or_match: {rules: [{any_match: true}, {http_response_headers_match: {headers: [{name: x, string_match: {safe_regex: {regex: '('}}}]}}]}": "or_match.rules[1].http_response_headers_match.headers[0]",
	} {
		p := &matcherv3.MatchPredicate{}
		if _, err := protofile.Parse([]byte("{"+text+"}"), protofile.YAML, p); err != nil {
			t.Fatal(err)
		}
		e, err := ParseErrors(p)
		switch {
		case want != "" && (err == nil || !strings.HasPrefix(err.Error(), want)):
			t.Errorf("%s: %v", text, err)
		case want == "" && err != nil:
			t.Errorf("%s: %v", text, err)
		case want == "" && strings.HasPrefix(text, "http"):
			r := &stream.Response{Status: 404}
			if e(r) {
				t.Error("one of two headers is enough")
			}
			if r.Header.Set("x", "1"); !e(r) {
				t.Error("both are there")
			}
		}
	}
	if e, err := ParseErrors(nil); e != nil || err != nil {
		t.Error("no matcher")
	}
}
