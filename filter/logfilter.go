package filter

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/outrigger-proxy/outrigger/internal/format"
	"github.com/outrigger-proxy/outrigger/internal/grpc"
	"github.com/outrigger-proxy/outrigger/internal/match"
	"github.com/outrigger-proxy/outrigger/internal/runtime"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// KeepFunc is a LogFilter that is a function.
type KeepFunc func(s *stream.Stream) bool

// Keep calls f.
func (f KeepFunc) Keep(s *stream.Stream) bool { return f(s) }

// NewLogFilter compiles an AccessLogFilter, for access loggers and for others such as local_reply_config; nil for nil. Errors begin
// with the field that is set.
func NewLogFilter(p *accesslogv3.AccessLogFilter, env Env) (LogFilter, error) {
	switch f := p.GetFilterSpecifier().(type) {
	case nil:
		return nil, nil
	case *accesslogv3.AccessLogFilter_AndFilter:
		return newAll(f.AndFilter.GetFilters(), env)
	case *accesslogv3.AccessLogFilter_OrFilter:
		return newAny(f.OrFilter.GetFilters(), env)
	case *accesslogv3.AccessLogFilter_HeaderFilter:
		return newHeaderFilter(f.HeaderFilter)
	case *accesslogv3.AccessLogFilter_ResponseFlagFilter:
		return newFlagFilter(f.ResponseFlagFilter)
	case *accesslogv3.AccessLogFilter_MetadataFilter:
		return newMetadataFilter(f.MetadataFilter)
	case *accesslogv3.AccessLogFilter_ExtensionFilter:
		return newExtensionFilter(f.ExtensionFilter, env)
	}
	return newSimpleFilter(p, env), nil
}

// newSimpleFilter compiles the filters that have nothing to refuse.
func newSimpleFilter(p *accesslogv3.AccessLogFilter, env Env) LogFilter {
	switch f := p.GetFilterSpecifier().(type) {
	case *accesslogv3.AccessLogFilter_StatusCodeFilter:
		compare := newComparison(f.StatusCodeFilter.GetComparison(), env)
		return KeepFunc(func(s *stream.Stream) bool { return compare(uint64(s.Info.Status)) })
	case *accesslogv3.AccessLogFilter_DurationFilter:
		compare := newComparison(f.DurationFilter.GetComparison(), env)
		return KeepFunc(func(s *stream.Stream) bool { return compare(uint64(format.Duration(s).Milliseconds())) })
	case *accesslogv3.AccessLogFilter_NotHealthCheckFilter:
		return KeepFunc(func(s *stream.Stream) bool { return !s.Info.HealthCheck })
	case *accesslogv3.AccessLogFilter_TraceableFilter:
		return KeepFunc(func(s *stream.Stream) bool { return s.Info.Traced })
	case *accesslogv3.AccessLogFilter_RuntimeFilter:
		return newRuntimeFilter(f.RuntimeFilter, env)
	case *accesslogv3.AccessLogFilter_GrpcStatusFilter:
		return newGRPCFilter(f.GrpcStatusFilter)
	}
	return newTypeFilter(p.GetLogTypeFilter())
}

// newComparison compiles a ComparisonFilter, whose bound a runtime key may override.
func newComparison(p *accesslogv3.ComparisonFilter, env Env) func(n uint64) bool {
	bound := runtime.CompileUint(p.GetValue(), 0)
	value := func() uint64 { return bound.Default }
	if bound.Key != "" {
		value = func() uint64 { return bound.Value(env.Runtime.Load()) }
	}
	switch p.GetOp() {
	case accesslogv3.ComparisonFilter_GE:
		return func(n uint64) bool { return n >= value() }
	case accesslogv3.ComparisonFilter_LE:
		return func(n uint64) bool { return n <= value() }
	case accesslogv3.ComparisonFilter_NE:
		return func(n uint64) bool { return n != value() }
	}
	return func(n uint64) bool { return n == value() }
}

func newFilters(list []*accesslogv3.AccessLogFilter, env Env) ([]LogFilter, error) {
	var all []LogFilter
	for i, p := range list {
		f, err := NewLogFilter(p, env)
		if err == nil && f == nil {
			err = errors.New("filter_specifier: is required")
		}
		if err != nil {
			return nil, fmt.Errorf("filters[%d].%w", i, err)
		}
		all = append(all, f)
	}
	return all, nil
}

func newAll(list []*accesslogv3.AccessLogFilter, env Env) (LogFilter, error) {
	filters, err := newFilters(list, env)
	if err != nil {
		return nil, fmt.Errorf("and_filter.%w", err)
	}
	return KeepFunc(func(s *stream.Stream) bool {
		for _, f := range filters {
			if !f.Keep(s) {
				return false
			}
		}
		return true
	}), nil
}

func newAny(list []*accesslogv3.AccessLogFilter, env Env) (LogFilter, error) {
	filters, err := newFilters(list, env)
	if err != nil {
		return nil, fmt.Errorf("or_filter.%w", err)
	}
	return KeepFunc(func(s *stream.Stream) bool {
		for _, f := range filters {
			if f.Keep(s) {
				return true
			}
		}
		return false
	}), nil
}

func newHeaderFilter(p *accesslogv3.HeaderFilter) (LogFilter, error) {
	h, err := match.CompileHeader(p.GetHeader())
	if err != nil {
		return nil, fmt.Errorf("header_filter.header.%w", err)
	}
	return KeepFunc(func(s *stream.Stream) bool { return h.Match(&s.Request) }), nil
}

// newFlagFilter keeps streams with any of the flags; without a list, with any flag at all.
func newFlagFilter(p *accesslogv3.ResponseFlagFilter) (LogFilter, error) {
	var flags stream.Flags
	for i, name := range p.GetFlags() {
		f, ok := stream.FlagByName(name)
		if !ok {
			return nil, fmt.Errorf("response_flag_filter.flags[%d]: %q is no response flag", i, name)
		}
		flags |= f
	}
	if flags == 0 {
		flags = ^flags
	}
	return KeepFunc(func(s *stream.Stream) bool { return s.Info.Flags&flags != 0 }), nil
}

// newMetadataFilter keeps streams whose dynamic metadata match; match_if_key_not_found, which is the default, also those that have
// no such value.
func newMetadataFilter(p *accesslogv3.MetadataFilter) (LogFilter, error) {
	absent := p.GetMatchIfKeyNotFound() == nil || p.GetMatchIfKeyNotFound().GetValue()
	m := p.GetMatcher()
	if m == nil {
		return KeepFunc(func(*stream.Stream) bool { return absent }), nil
	}
	value, err := match.CompileMetadata(m)
	if err != nil {
		return nil, fmt.Errorf("metadata_filter.matcher.%w", err)
	}
	there, err := match.CompileMetadata(&matcherv3.MetadataMatcher{
		Filter: m.GetFilter(), Path: m.GetPath(),
		Value: &matcherv3.ValueMatcher{MatchPattern: &matcherv3.ValueMatcher_PresentMatch{PresentMatch: true}},
	})
	return KeepFunc(func(s *stream.Stream) bool {
		if !there.Match(s.Info.Metadata) {
			return absent
		}
		return value.Match(s.Info.Metadata)
	}), err
}

func newExtensionFilter(p *accesslogv3.ExtensionFilter, env Env) (LogFilter, error) {
	env.Name = p.GetName()
	f, err := env.Extensions.LogFilter.Build(p.GetTypedConfig(), env)
	if err != nil {
		return nil, fmt.Errorf("extension_filter: %w", err)
	}
	return f, nil
}

// newRuntimeFilter keeps a share of the streams: the same ones in all proxies along the way of a request, by its request id, unless
// use_independent_randomness says otherwise.
func newRuntimeFilter(p *accesslogv3.RuntimeFilter, env Env) LogFilter {
	share := runtime.CompileFractionalPercent(p.GetPercentSampled())
	share.Key = p.GetRuntimeKey()
	alone := p.GetUseIndependentRandomness()
	return KeepFunc(func(s *stream.Stream) bool {
		draw, ok := uint64(0), false
		if !alone {
			draw, ok = idNumber(s.Info.RequestID)
		}
		if !ok {
			draw = rand.Uint64()
		}
		return share.Hit(env.Runtime.Load(), draw)
	})
}

// idNumber makes a number of the first eight digits of a UUID.
func idNumber(id string) (uint64, bool) {
	if len(id) < 36 {
		return 0, false
	}
	n, err := strconv.ParseUint(id[:8], 16, 64)
	return n, err == nil
}

func newGRPCFilter(p *accesslogv3.GrpcStatusFilter) LogFilter {
	var statuses []grpc.Status
	for _, n := range p.GetStatuses() {
		statuses = append(statuses, grpc.Status(n))
	}
	exclude := p.GetExclude()
	return KeepFunc(func(s *stream.Stream) bool {
		n, ok := grpc.StatusOfStream(s)
		if !ok {
			n = grpc.Unknown
		}
		return slices.Contains(statuses, n) != exclude
	})
}

func newTypeFilter(p *accesslogv3.LogTypeFilter) LogFilter {
	var types []stream.LogType
	for _, t := range p.GetTypes() {
		types = append(types, stream.LogType(t))
	}
	exclude := p.GetExclude()
	return KeepFunc(func(s *stream.Stream) bool { return slices.Contains(types, s.Info.LogType) != exclude })
}
