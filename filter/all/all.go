// Package all lists every extension.
package all

import (
	"github.com/outrigger-proxy/outrigger/cluster"
	proxyprotocolsocket "github.com/outrigger-proxy/outrigger/cluster/transport/proxy_protocol"
	upstreamtls "github.com/outrigger-proxy/outrigger/cluster/transport/tls"
	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/filter/accesslog/file"
	"github.com/outrigger-proxy/outrigger/filter/accesslog/stream"
	"github.com/outrigger-proxy/outrigger/filter/http/compressor"
	dynamicforwardproxy "github.com/outrigger-proxy/outrigger/filter/http/dynamic_forward_proxy"
	headermutation "github.com/outrigger-proxy/outrigger/filter/http/early_header_mutation/header_mutation"
	grpchttp1bridge "github.com/outrigger-proxy/outrigger/filter/http/grpc_http1_bridge"
	grpcstats "github.com/outrigger-proxy/outrigger/filter/http/grpc_stats"
	grpcweb "github.com/outrigger-proxy/outrigger/filter/http/grpc_web"
	healthcheck "github.com/outrigger-proxy/outrigger/filter/http/health_check"
	customheader "github.com/outrigger-proxy/outrigger/filter/http/original_ip_detection/custom_header"
	"github.com/outrigger-proxy/outrigger/filter/http/original_ip_detection/xff"
	"github.com/outrigger-proxy/outrigger/filter/http/router"
	setmetadata "github.com/outrigger-proxy/outrigger/filter/http/set_metadata"
	statefulsession "github.com/outrigger-proxy/outrigger/filter/http/stateful_session"
	sessioncookie "github.com/outrigger-proxy/outrigger/filter/http/stateful_session/cookie"
	sessionenvelope "github.com/outrigger-proxy/outrigger/filter/http/stateful_session/envelope"
	sessionheader "github.com/outrigger-proxy/outrigger/filter/http/stateful_session/header"
	httpinspector "github.com/outrigger-proxy/outrigger/filter/listener/http_inspector"
	originaldst "github.com/outrigger-proxy/outrigger/filter/listener/original_dst"
	proxyprotocol "github.com/outrigger-proxy/outrigger/filter/listener/proxy_protocol"
	tlsinspector "github.com/outrigger-proxy/outrigger/filter/listener/tls_inspector"
	connectionlimit "github.com/outrigger-proxy/outrigger/filter/network/connection_limit"
	directresponse "github.com/outrigger-proxy/outrigger/filter/network/direct_response"
	"github.com/outrigger-proxy/outrigger/filter/network/echo"
	hcm "github.com/outrigger-proxy/outrigger/filter/network/http_connection_manager"
	snicluster "github.com/outrigger-proxy/outrigger/filter/network/sni_cluster"
	snidynamicforwardproxy "github.com/outrigger-proxy/outrigger/filter/network/sni_dynamic_forward_proxy"
	tcpproxy "github.com/outrigger-proxy/outrigger/filter/network/tcp_proxy"
	downstreamtls "github.com/outrigger-proxy/outrigger/filter/transport/tls"
)

// Extensions returns the tables.
func Extensions() *filter.Extensions {
	e := &filter.Extensions{}
	filter.AddListener(e, httpinspector.New)
	filter.AddListener(e, originaldst.New)
	filter.AddListener(e, proxyprotocol.New)
	filter.AddNetwork(e, connectionlimit.New)
	filter.AddNetwork(e, directresponse.New)
	filter.AddNetwork(e, echo.New)
	filter.AddNetwork(e, hcm.New)
	filter.AddNetwork(e, tcpproxy.New)
	filter.AddHTTP(e, compressor.New)
	filter.AddHTTP(e, dynamicforwardproxy.New)
	filter.AddPerRoute(e, dynamicforwardproxy.NewPerRoute)
	filter.AddHTTP(e, grpchttp1bridge.New)
	filter.AddHTTP(e, grpcstats.New)
	filter.AddHTTP(e, grpcweb.New)
	filter.AddHTTP(e, healthcheck.New)
	filter.AddHTTP(e, router.New)
	filter.AddHTTP(e, setmetadata.New)
	filter.AddHTTP(e, statefulsession.New)
	filter.AddPerRoute(e, statefulsession.NewPerRoute)
	filter.AddSessionState(e, sessioncookie.New)
	filter.AddSessionState(e, sessionenvelope.New)
	filter.AddSessionState(e, sessionheader.New)
	filter.AddEarlyMutation(e, headermutation.New)
	filter.AddIPDetection(e, customheader.New)
	filter.AddIPDetection(e, xff.New)
	filter.AddLog(e, file.New)
	filter.AddLog(e, stream.NewStdout)
	filter.AddLog(e, stream.NewStderr)
	filter.AddListener(e, tlsinspector.New)
	filter.AddNetwork(e, snicluster.New)
	filter.AddNetwork(e, snidynamicforwardproxy.New)
	filter.AddTransport(e, downstreamtls.New)
	filter.AddUpstream(e, cluster.NewRawBuffer)
	filter.AddUpstream(e, upstreamtls.New)
	filter.AddUpstream(e, proxyprotocolsocket.New)
	return e
}
