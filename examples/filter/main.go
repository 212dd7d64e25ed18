// Command filter is Outrigger with one more HTTP filter: example.api_key lets a request pass that has the right x-api-key.
//
//	http_filters:
//	- name: example.api_key
//	  typed_config: {"@type": type.googleapis.com/google.protobuf.StringValue, value: secret}
//
// It uses nothing that a program in another repository could not use. A filter that is meant to stay has a message of its own: the
// message type is what finds it, and StringValue is whoever's comes first.
package main

import (
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/filter/all"
	"github.com/outrigger-proxy/outrigger/proxy"
)

func main() {
	e := all.Extensions()
	filter.AddHTTP(e, newAPIKey)
	proxy.Main(e)
}

type apiKey struct {
	key   string
	stats *apiKeyStats
}

type apiKeyStats struct {
	Denied filter.Counter `stat:"denied"` // http.<stat_prefix>.api_key.denied
}

func newAPIKey(p *wrapperspb.StringValue, env filter.Env) (any, error) {
	return &apiKey{p.GetValue(), filter.NewStats[apiKeyStats](env.Scope.Sub("api_key"))}, nil
}

// OnRequest is the whole filter: without the key the request ends here.
func (f *apiKey) OnRequest(s *filter.Stream) filter.Status {
	if key, _ := s.Request.Header.Get("x-api-key"); key != f.key {
		f.stats.Denied.Inc()
		return s.LocalReply(403, "api_key_denied", "wrong or missing x-api-key\n")
	}
	s.Request.Header.Del("x-api-key")
	return filter.Continue
}
