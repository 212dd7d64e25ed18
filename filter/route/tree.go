package route

import (
	"fmt"

	xdscorev3 "github.com/cncf/xds/go/xds/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/outrigger-proxy/outrigger/internal/extension"
	"github.com/outrigger-proxy/outrigger/internal/match"
	"github.com/outrigger-proxy/outrigger/internal/protofile"
)

// tree is the generic matcher of a virtual host: it leads to a route, or to a list of them, whose own matches still decide.
type tree struct{ t *match.Tree[*finder] }

func (v *VirtualHost) findTree(q *request) *Route {
	f, ok := v.tree.t.Match(match.Data{Stream: q.s, Conn: q.s.Info.Conn, Draw: q.draw})
	if !ok {
		return nil
	}
	return f.find(q)
}

func (h *host) matcherTree() error {
	t, err := match.CompileTree(h.p.GetMatcher(), match.TreeEnv[*finder]{Action: h.treeAction, Runtime: h.env.Runtime})
	if err != nil {
		return fmt.Errorf("matcher.%w", err)
	}
	h.vh.tree = &tree{t}
	return nil
}

func (h *host) treeAction(c *xdscorev3.TypedExtensionConfig) (*finder, error) {
	m, _, err := protofile.Unpack(c.GetTypedConfig())
	if err != nil {
		return nil, err
	}
	var protos []*routev3.Route
	switch p := m.(type) {
	case *routev3.Route:
		protos = []*routev3.Route{p}
	case *routev3.RouteList:
		protos = p.GetRoutes()
	default:
		return nil, &extension.NotFoundError{Name: c.GetName(), URL: c.GetTypedConfig().GetTypeUrl()}
	}
	var routes []*Route
	for i, p := range protos {
		r, err := h.route(p)
		if err != nil {
			return nil, fmt.Errorf("routes[%d]: %w", i, err)
		}
		routes = append(routes, r)
	}
	f := newFinder(routes)
	return &f, nil
}
