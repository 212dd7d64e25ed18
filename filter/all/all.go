// Package all lists every extension.
package all

import (
	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/filter/accesslog/file"
	"github.com/outrigger-proxy/outrigger/filter/accesslog/stream"
	headermutation "github.com/outrigger-proxy/outrigger/filter/http/early_header_mutation/header_mutation"
	"github.com/outrigger-proxy/outrigger/filter/http/health_check"
	customheader "github.com/outrigger-proxy/outrigger/filter/http/original_ip_detection/custom_header"
	"github.com/outrigger-proxy/outrigger/filter/http/original_ip_detection/xff"
	"github.com/outrigger-proxy/outrigger/filter/http/router"
	"github.com/outrigger-proxy/outrigger/filter/http/set_metadata"
	"github.com/outrigger-proxy/outrigger/filter/listener/http_inspector"
	"github.com/outrigger-proxy/outrigger/filter/listener/original_dst"
	"github.com/outrigger-proxy/outrigger/filter/listener/proxy_protocol"
	"github.com/outrigger-proxy/outrigger/filter/network/connection_limit"
	"github.com/outrigger-proxy/outrigger/filter/network/direct_response"
	"github.com/outrigger-proxy/outrigger/filter/network/echo"
	"github.com/outrigger-proxy/outrigger/filter/network/http_connection_manager"
	"github.com/outrigger-proxy/outrigger/filter/network/tcp_proxy"
	"github.com/outrigger-proxy/outrigger/internal/extension"
)

// Extensions returns the tables.
func Extensions() *filter.Extensions {
	e := &filter.Extensions{}
	extension.Add(&e.Listener, httpinspector.New)
	extension.Add(&e.Listener, originaldst.New)
	extension.Add(&e.Listener, proxyprotocol.New)
	extension.Add(&e.Network, connectionlimit.New)
	extension.Add(&e.Network, directresponse.New)
	extension.Add(&e.Network, echo.New)
	extension.Add(&e.Network, hcm.New)
	extension.Add(&e.Network, tcpproxy.New)
	extension.Add(&e.HTTP, healthcheck.New)
	extension.Add(&e.HTTP, router.New)
	extension.Add(&e.HTTP, setmetadata.New)
	extension.Add(&e.EarlyMutation, headermutation.New)
	extension.Add(&e.IPDetection, customheader.New)
	extension.Add(&e.IPDetection, xff.New)
	extension.Add(&e.Log, file.New)
	extension.Add(&e.Log, stream.NewStdout)
	extension.Add(&e.Log, stream.NewStderr)
	return e
}
