package stats

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Tag is a part of a name that stands for a dimension, such as the cluster.
type Tag struct{ Name, Value string }

// Tags takes the dimensions out of names (envoy.config.metrics.v3.StatsConfig.stats_tags). Of two values for one tag the first counts:
// fixed ones, then those of expressions that may match anywhere, then those of expressions for names with a certain first token.
type Tags struct {
	fixed             []Tag
	anywhere, rooted  []extractor // in the order of the configuration
	defaults, dRooted []extractor // and Envoy's
}

// extractor finds one tag in a name: by a pattern of tokens, or by a regular expression.
type extractor struct {
	tag    string
	tokens []string // `$` is the value, `*` any one token, `**` the rest; nil: an expression is used
	hint   string   // a part that every matching name has
	text   string   // the expression
	regexp pattern  // and compiled
}

// NewTags returns the extraction of Envoy's default tags, or an empty one.
func NewTags(defaults bool) *Tags {
	t := &Tags{}
	if !defaults {
		return t
	}
	for _, e := range defaultExtractors() {
		if e.rooted() {
			t.dRooted = append(t.dRooted, e)
		} else {
			t.defaults = append(t.defaults, e)
		}
	}
	return t
}

// Fix adds a tag that each statistic has.
func (t *Tags) Fix(name, value string) { t.fixed = append(t.fixed, Tag{name, value}) }

// Extract adds a tag that is found by a regular expression of ECMAScript: its first group is taken out of the name, and its second
// group, or its only one, is the value; without a group nothing is ever found. An empty expression means the default one of that tag name.
func (t *Tags) Extract(name, expression string) error {
	if expression == "" {
		found := false
		for _, e := range defaultExtractors() {
			if e.tag == name {
				t.extract(e)
				found = true
			}
		}
		if !found {
			return fmt.Errorf("no regex specified for tag specifier and no default regex for name: '%s'", name)
		}
		return nil
	}
	if name == "" {
		return errors.New("tag_name cannot be empty")
	}
	if err := ecmascript(expression); err != nil {
		return fmt.Errorf("regex: '%s': %w", expression, err)
	}
	re, err := compilePattern(expression)
	if err != nil {
		return fmt.Errorf("regex: %w", err)
	}
	t.extract(extractor{tag: name, text: expression, regexp: re})
	return nil
}

func (t *Tags) extract(e extractor) {
	if e.rooted() {
		t.rooted = append(t.rooted, e)
	} else {
		t.anywhere = append(t.anywhere, e)
	}
}

// rooted says that only names with a certain first token can match.
func (e *extractor) rooted() bool {
	if e.tokens != nil {
		return !strings.ContainsAny(e.tokens[0], "$*")
	}
	rest := strings.TrimLeft(strings.TrimPrefix(e.text, "^"), "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
	return strings.HasPrefix(e.text, "^") && len(rest) < len(e.text)-1 && strings.HasPrefix(rest, `\.`)
}

// cut is a piece of a name that goes, because it has become a tag.
type cut struct{ from, to int }

// Split returns name without the parts that became tags, and the tags. All extractors see the whole name.
func (t *Tags) Split(name string) (string, []Tag) {
	var tags []Tag
	has := func(name string) bool { return slices.ContainsFunc(tags, func(t Tag) bool { return t.Name == name }) }
	for _, f := range t.fixed {
		if !has(f.Name) {
			tags = append(tags, f)
		}
	}
	var cuts []cut
	for _, list := range [][]extractor{t.anywhere, t.defaults, t.rooted, t.dRooted} {
		for i := range list {
			e := &list[i]
			if value, c, ok := e.find(name); ok && !has(e.tag) {
				tags = append(tags, Tag{e.tag, value})
				cuts = append(cuts, c)
			}
		}
	}
	return remove(name, cuts), tags
}

func remove(name string, cuts []cut) string {
	if len(cuts) == 0 {
		return name
	}
	slices.SortFunc(cuts, func(a, b cut) int { return a.from - b.from })
	out, at := make([]byte, 0, len(name)), 0
	for _, c := range cuts {
		out = append(out, name[at:max(at, c.from)]...)
		at = max(at, c.to)
	}
	return string(append(out, name[at:]...))
}

func (e *extractor) find(name string) (string, cut, bool) {
	if e.tokens != nil {
		return e.token(name)
	}
	if !strings.Contains(name, e.hint) {
		return "", cut{}, false
	}
	m := e.regexp.FindStringSubmatchIndex(name)
	if len(m) < 4 || m[2] < 0 {
		return "", cut{}, false
	}
	value := name[m[2]:m[3]]
	if len(m) > 4 && m[4] >= 0 {
		value = name[m[4]:m[5]]
	}
	return value, cut{m[2], m[3]}, true
}

// token matches the name token by token.
func (e *extractor) token(name string) (value string, c cut, found bool) {
	at := 0
	for _, want := range e.tokens {
		if want == "**" {
			return value, c, at < len(name)
		}
		if at > len(name) {
			return "", cut{}, false
		}
		end := len(name)
		if i := strings.IndexByte(name[at:], '.'); i >= 0 {
			end = at + i
		}
		switch token := name[at:end]; want {
		case "*":
		case "$":
			value, c = token, cut{at, min(end+1, len(name))}
		default:
			if token != want {
				return "", cut{}, false
			}
		}
		at = end + 1
	}
	return value, c, at > len(name)
}

// defaultExtractors are the tags that Envoy knows, in its order: those that may stand anywhere come first.
func defaultExtractors() []extractor {
	const address = `(?:[_.[:digit:]]*|[_\[\]aAbBcCdDeEfF[:digit:]]*)`
	re := func(tag, hint, pattern string) extractor {
		return extractor{tag: "envoy." + tag, hint: hint, text: pattern, regexp: regexp.MustCompile(pattern)}
	}
	tok := func(tag, pattern string) extractor {
		return extractor{tag: "envoy." + tag, tokens: strings.Split(pattern, ".")}
	}
	return []extractor{
		re("response_code", "_rq_", `_rq(_(\d{3}))$`),
		re("response_code_class", "_rq_", `_rq_((\d))xx$`),
		re("worker_id", "worker_", `(?:^|\.)worker(_(\d+))\.`),
		tok("mongo_callsite", "mongo.*.collection.*.callsite.$.query.**"),
		tok("mongo_collection", "mongo.*.collection.$.query.**"),
		tok("mongo_cmd", "mongo.*.cmd.$.**"),
		tok("grpc_bridge_method", "cluster.*.grpc.*.$.**"),
		tok("http_user_agent", "http.*.user_agent.$.**"),
		tok("virtual_cluster", "vhost.*.vcluster.$.**"),
		tok("fault_downstream_cluster", "http.*.fault.$.**"),
		re("ssl_cipher", ".ssl.cipher.", `^listener\..*?\.ssl\.cipher(\.(.*?))$`),
		re("ssl_cipher_suite", ".ssl.ciphers.", `^cluster\..*?\.ssl\.ciphers(\.(.*?))$`),
		tok("grpc_bridge_service", "cluster.*.grpc.$.**"),
		tok("tcp_prefix", "tcp.$.**"),
		tok("udp_prefix", "udp.$.**"),
		tok("clientssl_prefix", "auth.clientssl.$.**"),
		tok("ratelimit_prefix", "ratelimit.$.**"),
		tok("cluster_name", "cluster.$.**"),
		re("http_conn_manager_prefix", ".http.", `^listener\..*?\.http\.((.*?)\.)`),
		tok("http_conn_manager_prefix", "http.$.**"),
		re("listener_address", "listener.", `^listener\.((`+address+`)\.)`),
		tok("virtual_host", "vhost.$.**"),
		tok("mongo_prefix", "mongo.$.**"),
		re("rds_route_config", ".rds.", `^http\.[^.]+\.rds\.((.*?)\.)\w+?$`),
		tok("scoped_rds_config", "http.*.scoped_rds.$.**"),
		tok("route", "vhost.*.route.$.**"),
		tok("thrift_prefix", "thrift.$.**"),
		tok("redis_prefix", "redis.$.**"),
		re("proxy_protocol_version", "proxy_proto.", `^proxy_proto\.(?:[^.]+\.)??versions\.(v(\d)\.)\w+$`),
		re("proxy_protocol_prefix", "proxy_proto.", `^proxy_proto\.((\w+)\.)(?:versions|not_found_|disallowed)`),
		tok("local_http_ratelimit_prefix", "$.http_local_rate_limit.**"),
		tok("local_network_ratelimit_prefix", "local_rate_limit.$.**"),
		tok("local_listener_ratelimit_prefix", "listener_local_ratelimit.$.**"),
		tok("dns_filter_prefix", "dns_filter.$.**"),
		tok("connection_limit_prefix", "connection_limit.$.**"),
		tok("rbac_prefix", "$.rbac.**"),
		tok("rbac_http_hcm_prefix", "http.*.rbac.**"),
		re("google_grpc_client_prefix", ".google_grpc.", `^cluster\.[^.]+\.google_grpc\.((.*?)\.)\w+$`),
		re("xds_resource_name", ".sds.", `\.sds\.((.*?)\.)\w+$`),
	}
}
