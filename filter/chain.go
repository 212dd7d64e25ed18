package filter

import (
	"fmt"
	"slices"

	"github.com/outrigger-proxy/outrigger/cluster"
)

// Chain is a compiled filter chain: each hook's list holds only those that implement it.
type Chain struct {
	Slots int
	// Mapper rewrites local replies; nil: they go out as they are.
	Mapper Mapper
	// Clusters are where routes lead; nil: nobody looks.
	Clusters *cluster.Manager
	// LocalAddress is what this machine calls itself in x-forwarded-for.
	LocalAddress string

	filters   []Named
	requests  []hook[RequestHook]
	responses []hook[ResponseHook]
	ends      []hook[EndHook]
	interims  []InterimHook
	terminal  HTTPTerminal
	usual     uint64 // filters that are disabled unless a route says otherwise
}

// Named is a filter with the name that routes know it by.
type Named struct {
	Name     string
	Filter   any
	Disabled bool // unless the route enables it
}

type hook[H any] struct {
	h   H
	bit uint64
}

// maxFilters is how many filters a chain may have: one bit each.
const maxFilters = 64

// Compile sorts filters, in configuration order, into the lists. The last one, and only that one, must be the terminal.
func Compile(filters []Named, slots int) (*Chain, error) {
	c := &Chain{Slots: slots, filters: filters}
	if len(filters) > maxFilters {
		return nil, fmt.Errorf("%d filters are more than %d", len(filters), maxFilters)
	}
	for i, f := range filters {
		bit := uint64(1) << i
		if f.Disabled {
			c.usual |= bit
		}
		if h, ok := f.Filter.(RequestHook); ok {
			c.requests = append(c.requests, hook[RequestHook]{h, bit})
		}
		if h, ok := f.Filter.(EndHook); ok {
			c.ends = append(c.ends, hook[EndHook]{h, bit})
		}
		if h, ok := f.Filter.(InterimHook); ok {
			c.interims = append(c.interims, h)
		}
		h, terminal := f.Filter.(HTTPTerminal)
		if terminal != (i == len(filters)-1) {
			return nil, position(f.Name, terminal)
		}
		if terminal && f.Disabled {
			return nil, fmt.Errorf("the last (terminal) filter (%s) in the chain cannot be disabled by default.", f.Name)
		}
		if terminal {
			c.terminal = h
		}
	}
	for i, f := range slices.Backward(filters) {
		if h, ok := f.Filter.(ResponseHook); ok {
			c.responses = append(c.responses, hook[ResponseHook]{h, 1 << i})
		}
	}
	return c, nil
}

// position says in Envoy's words that a filter stands in the wrong place.
func position(name string, terminal bool) error {
	if terminal {
		return fmt.Errorf("terminal filter named %s of type %s must be the last filter in a http filter chain", name, name)
	}
	return fmt.Errorf("non-terminal filter named %s of type %s is the last filter in a http filter chain", name, name)
}

// Serve takes s from its request to a response whose body is not yet pulled, or to a Restart.
func (c *Chain) Serve(s *Stream) {
	s.off = c.disabled(s)
	for i := range c.requests {
		if e := &c.requests[i]; s.off&e.bit == 0 && e.h.OnRequest(s) == Stop {
			c.expire(s)
			c.respond(s)
			return
		}
	}
	c.terminal.Serve(s)
	if !s.Restart {
		c.respond(s)
	}
}

// disabled is the set of filters that the route of s switches off.
func (c *Chain) disabled(s *Stream) uint64 {
	off := c.usual
	for i := range c.filters {
		if d, said := s.Route.FilterDisabled(c.filters[i].Name); said {
			if off &^= 1 << i; d {
				off |= 1 << i
			}
		}
	}
	return off
}

// expire puts the reply of a limit in the place of a filter's that only failed since the limit had passed.
func (c *Chain) expire(s *Stream) {
	if l, ok := s.Expired(); ok && s.local {
		s.TimedOut(timeouts[l])
	}
}

// respond runs the response hooks; a local reply from one of them goes out as it is, as in Envoy.
func (c *Chain) respond(s *Stream) {
	s.Finish()
	for i := range c.responses {
		if e := &c.responses[i]; s.off&e.bit == 0 && e.h.OnResponse(s) == Stop {
			s.Finish()
			return
		}
	}
}

// Respond runs the response hooks for a reply that was made outside of Serve: by the connection manager.
func (c *Chain) Respond(s *Stream) { c.respond(s) }

// End runs the end hooks.
func (c *Chain) End(s *Stream) {
	for i := range c.ends {
		if e := &c.ends[i]; s.off&e.bit == 0 {
			e.h.OnEnd(s)
		}
	}
}
