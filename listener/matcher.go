package listener

import (
	"fmt"
	"math/rand/v2"

	xdscorev3 "github.com/cncf/xds/go/xds/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/match"
	"github.com/outrigger-proxy/outrigger/internal/runtime"
)

// compileMatcher compiles filter_chain_matcher, whose actions name filter chains. The rules of the chains themselves have no say then,
// as in Envoy; an action that names no chain ends the connection.
func compileMatcher(p *listenerv3.Listener, list []*chain, fallback *chain, rt *runtime.Loader) (*chains, error) {
	byName := map[string]*chain{}
	for i, f := range p.GetFilterChains() {
		switch {
		case f.GetName() == "":
			return nil, fmt.Errorf(`filter_chains[%d]: "name" field is required when using a listener matcher`, i)
		case byName[f.GetName()] != nil:
			return nil, fmt.Errorf(`filter_chains[%d]: "name" field is duplicated with value '%s'`, i, f.GetName())
		}
		byName[f.GetName()] = list[i]
	}
	tree, err := match.CompileTree(p.GetFilterChainMatcher(), match.TreeEnv[*chain]{
		Runtime: rt,
		Action: func(c *xdscorev3.TypedExtensionConfig) (*chain, error) {
			name := &wrapperspb.StringValue{}
			if err := c.GetTypedConfig().UnmarshalTo(name); err != nil {
				return nil, fmt.Errorf("didn't find a registered implementation for '%s' with type URL: '%s'", c.GetName(), c.GetTypedConfig().MessageName())
			}
			return byName[name.GetValue()], nil
		},
	})
	if err != nil {
		return nil, fmt.Errorf("filter_chain_matcher.%w", err)
	}
	return &chains{matcher: tree, fallback: fallback}, nil
}

// match asks the generic matcher.
func (t *chains) match(a *filter.Accepted) *chain {
	transport := a.TransportProtocol
	if transport == "" {
		transport = "raw_buffer"
	}
	c, ok := t.matcher.Match(match.Data{Conn: a.Info, TransportProtocol: transport, Draw: rand.Uint64()})
	if !ok {
		return t.fallback
	}
	return c
}
