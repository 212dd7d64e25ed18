// Package all lists every extension.
package all

import (
	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/filter/http/router"
	"github.com/outrigger-proxy/outrigger/filter/network/http_connection_manager"
	"github.com/outrigger-proxy/outrigger/filter/network/tcp_proxy"
	"github.com/outrigger-proxy/outrigger/internal/extension"
)

// Extensions returns the tables.
func Extensions() *filter.Extensions {
	e := &filter.Extensions{}
	extension.Add(&e.Network, hcm.New)
	extension.Add(&e.Network, tcpproxy.New)
	extension.Add(&e.HTTP, router.New)
	return e
}
