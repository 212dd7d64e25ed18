package route

import (
	"fmt"
	"strings"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// Table is an immutable route configuration.
type Table struct {
	Name string
	// InternalOnlyHeaders are removed from requests from outside; in lower case.
	InternalOnlyHeaders []string
	Metadata            stream.Metadata
	// Warnings are what a control plane should know of, though Envoy takes it too.
	Warnings []string

	exact    map[string]*VirtualHost
	fallback *VirtualHost
	routes   map[*VirtualHost][]*oldRoute
}

type oldRoute struct {
	*Route
	prefix, path string
}

// Match finds the route of the request of s. Path and Authority are taken as they stand in s.Request, after normalisation; draw is any
// uniformly distributed number and decides runtime fractions and weights. Without a virtual host both are nil, without a
// route the route is.
func (t *Table) Match(s *stream.Stream, draw uint64) (*VirtualHost, *Route) {
	vh := t.exact[s.Request.Authority]
	if vh == nil {
		if vh = t.fallback; vh == nil {
			return nil, nil
		}
	}
	path, _, _ := strings.Cut(s.Request.Path, "?")
	for _, r := range t.routes[vh] {
		if r.path != "" && path != r.path || !strings.HasPrefix(path, r.prefix) {
			continue
		}
		return vh, r.Route
	}
	return vh, nil
}

// Compile builds the table of c, or says what in c it does not honour.
func Compile(c *routev3.RouteConfiguration, env Env) (*Table, error) {
	t := &Table{exact: map[string]*VirtualHost{}, routes: map[*VirtualHost][]*oldRoute{}}
	for i, v := range c.GetVirtualHosts() {
		h := &VirtualHost{Name: v.GetName()}
		for j, r := range v.GetRoutes() {
			o, err := compile(r, h)
			if err != nil {
				return nil, fmt.Errorf("virtual_hosts[%d].routes[%d]: %w", i, j, err)
			}
			t.routes[h] = append(t.routes[h], o)
		}
		for _, d := range v.GetDomains() {
			if d == "*" {
				t.fallback = h
			} else {
				t.exact[d] = h
			}
		}
	}
	return t, nil
}

func compile(r *routev3.Route, v *VirtualHost) (*oldRoute, error) {
	o := &oldRoute{Route: &Route{Name: r.GetName(), VirtualHost: v, RequestBufferLimit: Unset}}
	o.prefix, o.path = r.GetMatch().GetPrefix(), r.GetMatch().GetPath()
	switch a := r.GetAction().(type) {
	case *routev3.Route_DirectResponse:
		o.Direct = &Direct{Status: int(a.DirectResponse.GetStatus()), body: a.DirectResponse.GetBody().GetInlineString()}
	case *routev3.Route_Route:
		o.Action = &Action{Cluster: a.Route.GetCluster(), Timeout: 15 * time.Second, ClusterNotFoundCode: 503}
		if a.Route.GetTimeout() != nil {
			o.Action.Timeout = a.Route.GetTimeout().AsDuration()
		}
	default:
		return nil, fmt.Errorf("action: %T is not supported", a)
	}
	return o, nil
}

func parseConditions(list string, names map[string]Condition) (c Condition, ok bool) {
	ok = true
	for list != "" {
		var name string
		name, list, _ = strings.Cut(list, ",")
		n, known := names[strings.Trim(name, " \t")]
		c |= n
		ok = ok && known
	}
	return c, ok
}
