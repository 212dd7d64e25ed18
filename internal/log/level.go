package log

import (
	"fmt"
	"slices"
	"strings"

	"go.uber.org/zap/zapcore"
)

// The levels that zap has no name for. Envoy's critical is zap's DPanic, which only logs here.
const (
	Trace    = zapcore.DebugLevel - 1
	Critical = zapcore.DPanicLevel
	Off      = zapcore.FatalLevel + 1
)

// levels are Envoy's names by level, ascending.
func levels() []struct {
	name  string
	level zapcore.Level
} {
	return []struct {
		name  string
		level zapcore.Level
	}{
		{"trace", Trace},
		{"debug", zapcore.DebugLevel},
		{"info", zapcore.InfoLevel},
		{"warning", zapcore.WarnLevel},
		{"error", zapcore.ErrorLevel},
		{"critical", Critical},
		{"off", Off},
	}
}

// LevelName is Envoy's name of a level.
func LevelName(l zapcore.Level) string {
	name := "trace"
	for _, e := range levels() {
		if l >= e.level {
			name = e.name
		}
	}
	return name
}

// ParseLevel reads the name of a level; warn is short for warning.
func ParseLevel(name string) (zapcore.Level, error) {
	if name == "warn" {
		return zapcore.WarnLevel, nil
	}
	for _, e := range levels() {
		if e.name == name {
			return e.level, nil
		}
	}
	return 0, fmt.Errorf("invalid log level specified '%s'", name)
}

// ComponentLevel is a component with its own level.
type ComponentLevel struct {
	Name  string
	Level zapcore.Level
}

// ParseComponentLevels reads a list such as "upstream:debug,config:trace".
func ParseComponentLevels(s string) ([]ComponentLevel, error) {
	if s == "" {
		return nil, nil
	}
	var list []ComponentLevel
	for part := range strings.SplitSeq(s, ",") {
		name, level, ok := strings.Cut(part, ":")
		if !ok || strings.Contains(level, ":") {
			return nil, fmt.Errorf("component log level not correctly specified '%s'", part)
		}
		l, err := ParseLevel(level)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(Components(), name) {
			return nil, fmt.Errorf("invalid component specified '%s'", name)
		}
		list = append(list, ComponentLevel{name, l})
	}
	return list, nil
}

// Components lists Envoy's component names, in Envoy's order. There are no others.
func Components() []string {
	return strings.Fields(`a2a admin ai_protocol_manager alternate_protocols_cache aws assert backtrace basic_auth cache_filter client config
		connection conn_handler compression credential_injector decompression dns dubbo envoy_bug ext_authz ext_proc rocketmq file filter
		forward_proxy geolocation grpc happy_eyeballs hc health_checker http http2 hystrix init io jwt json_rpc kafka key_value_store lua
		local_rate_limit main matcher mcp misc mongo multi_connection notification oauth2 quic quic_stream pool rate_limit_quota rbac rds redis
		router runtime stats secret sse tap testing thrift tracing upstream udp wasm websocket golang stats_sinks dynamic_modules ip_tagging`)
}
