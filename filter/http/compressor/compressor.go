// Package compressor is the HTTP filter envoy.filters.http.compressor
// (type.googleapis.com/envoy.extensions.filters.http.compressor.v3.Compressor): it compresses responses for clients that accept that, with
// gzip, Brotli or Zstandard. README.md has the differences from Envoy, fields.golden what becomes of each field.
package compressor

import (
	"slices"
	"strings"

	compressorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/compressor/v3"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/header"
	"github.com/outrigger-proxy/outrigger/internal/runtime"
	"github.com/outrigger-proxy/outrigger/internal/stats"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// Filter is one value for all workers.
type Filter struct {
	// set at construction
	settings

	runtime *runtime.Loader
	slot    filter.Slot[state]
	stats   *responseStats
	request *requestStats
	// owned by the worker of the same index
	free [][]encoder
}

// state belongs to a stream.
type state struct {
	accept string // accept-encoding of the request
	asked  bool   // it had one
	body   body
}

// Reset makes s ready for another stream.
func (s *state) Reset() { *s = state{body: body{out: output{s.body.out.b[:0]}}} }

// responseStats are http.<prefix>.compressor.<library name>.<encoding>.*
type responseStats struct {
	Compressed   stats.Counter `stat:"compressed"`
	Not          stats.Counter `stat:"not_compressed"`
	Uncompressed stats.Counter `stat:"total_uncompressed_bytes"`
	Bytes        stats.Counter `stat:"total_compressed_bytes"`
	TooSmall     stats.Counter `stat:"content_length_too_small"`
	NoAccept     stats.Counter `stat:"no_accept_header"`
	Identity     stats.Counter `stat:"header_identity"`
	Used         stats.Counter `stat:"header_compressor_used"`
	Overshadowed stats.Counter `stat:"header_compressor_overshadowed"`
	Wildcard     stats.Counter `stat:"header_wildcard"`
	NotValid     stats.Counter `stat:"header_not_valid"`
	NotETag      stats.Counter `stat:"not_compressed_etag"`
}

// requestStats are those of the other direction, which is never compressed.
type requestStats struct {
	Compressed   stats.Counter `stat:"compressed"`
	Not          stats.Counter `stat:"not_compressed"`
	Uncompressed stats.Counter `stat:"total_uncompressed_bytes"`
	Bytes        stats.Counter `stat:"total_compressed_bytes"`
	TooSmall     stats.Counter `stat:"content_length_too_small"`
}

// New builds it.
func New(p *compressorv3.Compressor, env filter.Env) (any, error) {
	s, err := parse(p)
	if err != nil {
		return nil, err
	}
	scope := env.Scope.Sub("compressor").Sub(s.name).Sub(s.library.stat)
	f := &Filter{settings: *s, runtime: env.Runtime, slot: filter.NewSlot[state](env), request: stats.New[requestStats](scope.Sub("request")), free: make([][]encoder, len(env.Workers))}
	if s.bothWays {
		scope = scope.Sub("response")
	}
	f.stats = stats.New[responseStats](scope)
	return f, nil
}

// shared is where the compressors of a chain find each other, in the filter state of a stream.
const shared = "envoy.filters.http.compressor"

// OnRequest notes what the client accepts.
func (f *Filter) OnRequest(s *filter.Stream) filter.Status {
	f.request.Not.Inc()
	st, h := f.slot.Get(s), &s.Request.Header
	if st.accept, st.asked = h.Joined("accept-encoding"); !st.asked {
		return filter.Continue
	}
	if s.Info.State == nil {
		s.Info.State = stream.FilterState{}
	}
	all, _ := s.Info.State[shared].([]*Filter)
	s.Info.State[shared] = append(all, f)
	if f.removeAccept && f.on() {
		h.Remove("accept-encoding")
	}
	return filter.Continue
}

func (f *Filter) on() bool { return f.runtime == nil || f.enabled.Enabled(f.runtime.Load()) }

// OnResponse compresses the body, if it may and the client accepts it.
func (f *Filter) OnResponse(s *filter.Stream) filter.Status {
	st, r := f.slot.Get(s), &s.Response
	if !f.on() {
		return filter.Continue
	}
	long := f.longEnough(r)
	fit := long && s.Upgrade == "" && f.fits(r)
	if r.Body != nil && long && f.accepted(s, st, fit) && fit && !encodedTransfer(r) {
		f.compress(s, st)
	} else {
		f.stats.Not.Inc()
	}
	if fit {
		vary(&r.Header)
	}
	return filter.Continue
}

// longEnough compares content-length with the limit; a body whose length nobody knows is long enough.
func (f *Filter) longEnough(r *stream.Response) bool {
	v, ok := r.Header.Find(header.ContentLength)
	if !ok {
		return r.Body != nil
	}
	if n, valid := number(v); valid && n >= uint64(f.least) {
		return true
	}
	f.stats.TooSmall.Inc()
	return false
}

func number(v string) (n uint64, ok bool) {
	for i := range len(v) {
		if v[i] < '0' || v[i] > '9' || n > 1<<56 {
			return 0, false
		}
		n = 10*n + uint64(v[i]-'0')
	}
	return n, v != ""
}

// fits says whether the response may be compressed, whatever the client accepts.
func (f *Filter) fits(r *stream.Response) bool {
	h := &r.Header
	if f.disableOnETag && h.Has("etag") {
		f.stats.NotETag.Inc()
		return false
	}
	if v, ok := h.Joined("cache-control"); ok && hasToken(v, "no-transform") {
		return false
	}
	return f.allowed(h) && !h.Has("content-encoding") && !slices.Contains(f.codes, uint32(r.Status))
}

// allowed says whether the content type is one to compress.
func (f *Filter) allowed(h *header.Map) bool {
	v, ok := h.Find(header.ContentType)
	if !ok {
		return true
	}
	v, _, _ = strings.Cut(v, ";")
	v = strings.TrimSpace(v)
	for i := range f.matchers {
		if f.matchers[i].Match(v) {
			return true
		}
	}
	if len(f.matchers) > 0 && f.types == nil {
		return false
	}
	return f.types == nil || f.types[strings.ToLower(v)]
}

// encodedTransfer says whether the transfer is compressed already.
func encodedTransfer(r *stream.Response) bool {
	v, ok := r.Header.Joined("transfer-encoding")
	return ok && (hasToken(v, "gzip") || hasToken(v, "deflate"))
}

func hasToken(list, token string) bool {
	for t := range strings.SplitSeq(list, ",") {
		if strings.EqualFold(strings.TrimSpace(t), token) {
			return true
		}
	}
	return false
}

// vary lets caches know that the answer depends on what is accepted.
func vary(h *header.Map) {
	v, ok := h.Joined("vary")
	switch {
	case !ok:
		h.Add("vary", "Accept-Encoding")
	case !hasToken(v, "accept-encoding"):
		h.Set("vary", v+", Accept-Encoding")
	}
}

// accepted decides which of the compressors of the chain the client gets, and says whether it is this one.
func (f *Filter) accepted(s *filter.Stream, st *state, fit bool) bool {
	if !st.asked {
		f.stats.NoAccept.Inc()
		return false
	}
	all, _ := s.Info.State[shared].([]*Filter)
	c := choose(st.accept, all, &s.Response.Header)
	mine := c.encoding == f.library.encoding
	switch {
	case c.kind == notValid:
		f.stats.NotValid.Inc()
	case c.kind == identity:
		f.stats.Identity.Inc()
	case !mine:
		f.stats.Overshadowed.Inc()
	case c.kind == wildcard:
		f.stats.Wildcard.Inc()
	case fit:
		f.stats.Used.Inc()
	}
	return mine && (c.kind == wildcard || c.kind == named)
}

// compress puts the encoder before the body.
func (f *Filter) compress(s *filter.Stream, st *state) {
	r := &s.Response
	f.stats.Compressed.Inc()
	r.Header.RemoveID(header.ContentLength)
	if v, ok := r.Header.Get("etag"); ok && !strings.HasPrefix(v, "W/") && !strings.HasPrefix(v, "w/") {
		if f.weaken {
			r.Header.Set("etag", "W/"+v)
		} else {
			r.Header.Remove("etag") // a strong one is about the bytes
		}
	}
	r.Header.Set("content-encoding", f.library.encoding)
	st.body.begin(f, s.Worker.ID, r.Body)
	r.Body = &st.body
}

// OnEnd takes the encoder back.
func (f *Filter) OnEnd(s *filter.Stream) { f.slot.Get(s).body.end() }
