package router

import (
	"slices"

	"github.com/outrigger-proxy/outrigger/cluster"
	"github.com/outrigger-proxy/outrigger/lb"
)

// pick chooses the host of an attempt: the one that a filter wants, or one that the request names where the cluster allows that, or else
// whom the balancer has in mind.
func (e *exchange) pick() *cluster.Host {
	h := e.choose(e.s.Info.Upstream.Attempts > 1)
	if h != nil {
		e.cluster.Selected(&e.s.Info, h)
	}
	return h
}

func (e *exchange) choose(retrying bool) *cluster.Host {
	if w := &e.s.Override; w.Address != "" && !retrying {
		h, found := e.cluster.Wanted(w.Address)
		if h != nil {
			return h
		}
		if w.Strict {
			if !found {
				e.missing = w.Status
			}
			return nil
		}
	}
	h, used := e.cluster.Override(&e.s.Info, &e.s.Request.Header, e.overrides)
	if e.overrides = used; h != nil {
		return h
	}
	return e.ask(retrying)
}

// ask asks the balancer, again and again where the retry policy rejects hosts.
func (e *exchange) ask(retrying bool) *cluster.Host {
	for n := 0; ; n++ {
		q := e.balance(retrying, n)
		if f := e.cluster.Forwarding(); f != nil {
			if e.unresolved = f.Resolve(e.s.Worker, &q); e.unresolved != "" {
				return nil
			}
		}
		h := e.cluster.Pick(e.s.Worker, q)
		if h == nil || !retrying || n >= e.retry.hostAttempts() || !e.retry.rejects(h) {
			return h
		}
	}
}

// balance is the question to the balancer, of which it has turned down n answers.
func (e *exchange) balance(retrying bool, n int) lb.Request {
	if !e.hashed && e.cluster.Hashes() {
		e.hashed = true
		p := e.cluster.HashPolicy()
		if len(p) == 0 {
			p = e.action.HashPolicy
		}
		e.hash, e.hasHash, e.cookies = p.Hash(&e.s.Stream, e.cookies)
	}
	q := lb.Request{Random: draw(), Hash: e.hash, HasHash: e.hasHash, Attempt: uint32(n)}
	e.cluster.Aim(&q, &e.s.Info, e.s.Request.Authority, &e.s.Request.Header)
	if e.cluster.Subsets() {
		q.Match, q.Fallbacks = e.criteria(), e.action.Fallbacks
	}
	if n := e.retry.policy.PreviousPriors; retrying && n > 0 {
		tried := e.retry.tried
		for _, h := range tried[:len(tried)/n*n] {
			q.Avoid |= 1 << (e.cluster.PriorityOf(h) & 31)
		}
	}
	return q
}

// criteria choose the subset: those of the route, with what filters have written for the stream laid over them.
func (e *exchange) criteria() []lb.Criterion {
	if e.matched {
		return e.match
	}
	e.matched, e.match = true, e.action.MetadataMatch
	if own := e.s.Info.Metadata["envoy.lb"]; len(own) > 0 {
		e.match = lb.Merge(slices.Clip(e.match), lb.Criteria(own))
	}
	return e.match
}
