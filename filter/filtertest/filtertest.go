// Package filtertest serves requests to an HTTP filter as a connection manager does, without one: tests of filters give the head and the
// pieces of a body, answer in the place of the router, and look at what comes out at both ends.
package filtertest

import (
	"io"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/outrigger-proxy/outrigger/cluster"
	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/extension"
	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/fiber/fibertest"
	"github.com/outrigger-proxy/outrigger/internal/header"
	"github.com/outrigger-proxy/outrigger/internal/log"
	"github.com/outrigger-proxy/outrigger/internal/stats"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// Stage is where streams are served: a worker, and one stream that is used again and again, as the connection manager does.
type Stage struct {
	T       *testing.T
	Env     filter.Env
	Cluster *cluster.Cluster // "up": where requests lead, in name only
	Stream  filter.Stream

	slots int
	chain *filter.Chain
	play  *Play
	ends  filter.Conn
}

// Each runs f on a fiber of each engine.
func Each(t *testing.T, f func(g *Stage)) {
	t.Helper()
	fibertest.Each(t, func(t *testing.T, w *fiber.Worker) {
		t.Helper()
		g := &Stage{T: t}
		store := &stats.Store{}
		g.Env = filter.Env{
			Process:  &filter.Process{Workers: []*fiber.Worker{w}, Stats: store, Logs: log.Discard(), Extensions: &filter.Extensions{}},
			Listener: &filter.Listener{BufferLimit: 1 << 20}, Scope: store.Root().Sub("http").Sub("test"), Slots: &g.slots,
		}
		g.Cluster = &cluster.Cluster{Name: "up", AltName: "up", Codes: store.Root().Sub("cluster").Sub("up")}
		g.ends = filter.Conn{Worker: w, Info: &stream.Conn{Start: w.Now()}}
		f(g)
	})
}

// New builds a filter through a registry, as a configuration does.
func New[M proto.Message](g *Stage, p M, build func(M, filter.Env) (any, error)) (any, error) {
	var r extension.Registry[any, filter.Env]
	extension.Add(&r, build)
	a, err := anypb.New(p)
	if err != nil {
		g.T.Fatal(err)
	}
	return r.Build(a, g.Env)
}

// Use makes a chain of the filters that stands before the upstream.
func (g *Stage) Use(filters ...any) {
	g.T.Helper()
	var list []filter.Named
	for _, f := range append(slices.Clone(filters), upstream{g}) {
		list = append(list, filter.Named{Name: "test", Filter: f})
	}
	c, err := filter.Compile(list, g.slots)
	if err != nil {
		g.T.Fatal(err)
	}
	g.chain = c
}

// Play is a request, and what the upstream answers.
type Play struct {
	Protocol stream.Protocol // HTTP11 if it is not said
	Method   string          // POST
	Path     string          // /
	Head     []string        // "name: value"
	Body     []string        // pieces; "" says that the next one is not there yet. Nil: the head ends the message
	Trailer  []string

	Status        int // of the answer: 200 if it is not said
	Answer        []string
	AnswerBody    []string
	AnswerTrailer []string
	Break         error // ends the body of the answer in the place of io.EOF

	// Upstream is told of the request when it has come in whole; it may change the answer.
	Upstream func(s *filter.Stream, body string)
}

// Seen is a message as it has come out: a line for each header, sorted, the body, and a line for each trailer.
type Seen struct {
	Status  int
	Head    []string
	Body    string
	Trailer []string
	Err     error // of the body
}

// Get returns the value of a header.
func (s *Seen) Get(name string) string {
	for _, line := range s.Head {
		if v, ok := strings.CutPrefix(line, name+": "); ok {
			return v
		}
	}
	return ""
}

// Serve plays p and returns the response as the client gets it.
func (g *Stage) Serve(p *Play) *Seen {
	g.T.Helper()
	s := g.begin(p)
	g.chain.Serve(s)
	out := &Seen{Status: s.Response.Status, Head: lines(&s.Response.Header)}
	if s.Response.Body != nil {
		out.Body, out.Err = read(s.Response.Body)
	}
	out.Trailer = lines(&s.Response.Trailer)
	g.chain.End(s)
	s.End()
	return out
}

// Allocs returns how many allocations serving p costs, besides those of the stage.
func (g *Stage) Allocs(p *Play) float64 {
	chain := g.chain
	serve := func() {
		s := g.begin(p)
		g.chain.Serve(s)
		for s.Response.Body != nil {
			if _, err := s.Response.Body.Next(true); err != nil {
				break
			}
		}
		g.chain.End(s)
		s.End()
	}
	with := testing.AllocsPerRun(100, serve)
	g.Use()
	without := testing.AllocsPerRun(100, serve)
	g.chain = chain
	return with - without
}

func (g *Stage) begin(p *Play) *filter.Stream {
	if p.Status == 0 {
		p.Status = 200
	}
	s, q := &g.Stream, &g.Stream.Request
	g.play = p
	q.Method, q.Path, q.Authority, q.Scheme, q.Body = or(p.Method, "POST"), or(p.Path, "/"), "a", "http", nil
	fill(&q.Header, header.Request, p.Head)
	fill(&q.Trailer, header.Request, nil)
	if p.Body != nil {
		q.Body = &pieces{all: p.Body, end: io.EOF, last: func() { fill(&q.Trailer, header.Request, p.Trailer) }}
	}
	s.Response.Header.Become(header.Response)
	s.Begin(&filter.Setup{Conn: &g.ends, Chain: g.chain})
	s.Info.Protocol = max(p.Protocol, stream.HTTP11)
	s.Cluster = g.Cluster
	return s
}

func or(s, usual string) string {
	if s == "" {
		return usual
	}
	return s
}

func fill(m *header.Map, r header.Role, lines []string) {
	m.Reset()
	m.Become(r)
	for _, l := range lines {
		name, value, _ := strings.Cut(l, ": ")
		m.Add(name, value)
	}
}

func lines(m *header.Map) (all []string) {
	for _, f := range m.All() {
		all = append(all, strings.Clone(f.Name)+": "+f.Value)
	}
	slices.Sort(all)
	return all
}

func read(b stream.Body) (string, error) {
	var all strings.Builder
	for {
		p, err := b.Next(false)
		if p == nil && err == nil {
			p, err = b.Next(true)
		}
		if err == io.EOF {
			return all.String(), nil
		}
		if err != nil {
			return all.String(), err
		}
		all.Write(p)
	}
}

// pieces is a body; each of its pieces is spoilt when the next one is asked for.
type pieces struct {
	all  []string
	end  error
	last func() // brings the trailers
	lent []byte
}

// Next returns the next piece.
func (b *pieces) Next(wait bool) ([]byte, error) {
	for i := range b.lent {
		b.lent[i] = '!'
	}
	for len(b.all) > 0 {
		p := b.all[0]
		if p == "" && !wait {
			return nil, nil
		}
		if b.all = b.all[1:]; p != "" {
			b.lent = append(b.lent[:0], p...)
			return b.lent, nil
		}
	}
	if b.last != nil {
		b.last()
		b.last = nil
	}
	return nil, b.end
}

// upstream is the terminal: it reads the request, and answers with what the play says.
type upstream struct{ g *Stage }

// Serve is filter.HTTPTerminal.
func (u upstream) Serve(s *filter.Stream) {
	p, body := u.g.play, ""
	if s.Request.Body != nil {
		var err error
		if body, err = read(s.Request.Body); err != nil {
			s.Unreadable(err)
			return
		}
	}
	if p.Upstream != nil {
		p.Upstream(s, body)
	}
	i, r := &s.Info, &s.Response
	now := s.Worker.Now()
	i.Upstream.LastTx, i.Upstream.LastRx = now, now
	r.Status, i.Status = p.Status, p.Status
	fill(&r.Header, header.Response, p.Answer)
	if p.AnswerBody == nil && p.Break == nil {
		return
	}
	end := p.Break
	if end == nil {
		end = io.EOF
	}
	r.Body = &pieces{all: p.AnswerBody, end: end, last: func() { fill(&r.Trailer, header.Response, p.AnswerTrailer) }}
}

// Stats returns the statistics that were used and whose names begin with prefix, without it.
func (g *Stage) Stats(prefix string) map[string]uint64 {
	all := map[string]uint64{}
	g.Env.Stats.Flush()
	for _, s := range g.Env.Stats.Snapshot(func(name string) bool { return strings.HasPrefix(name, prefix) }) {
		v := s.Counter + uint64(s.Gauge)
		if s.Histogram != nil {
			v = s.Histogram.Total().Count()
		}
		if v != 0 {
			all[strings.TrimPrefix(s.Name, prefix)] = v
		}
	}
	return all
}
