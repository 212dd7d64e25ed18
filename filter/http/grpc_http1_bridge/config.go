package grpchttp1bridge

import (
	bridgev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/grpc_http1_bridge/v3"
)

type config struct {
	upgrade     bool // application/x-protobuf becomes gRPC
	ignoreQuery bool // the query is cut off
}

func parse(p *bridgev3.Config) config {
	return config{upgrade: p.GetUpgradeProtobufToGrpc(), ignoreQuery: p.GetIgnoreQueryParameters()}
}
