package http2_test

import (
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/outrigger-proxy/outrigger/internal/fieldtest"
	"github.com/outrigger-proxy/outrigger/internal/http2"
)

func TestFields(t *testing.T) {
	fieldtest.Check(t, "fields.golden", &corev3.Http2ProtocolOptions{}, &corev3.KeepaliveSettings{})
}

func TestParse(t *testing.T) {
	u := wrapperspb.UInt32
	o, err := http2.Parse(&corev3.Http2ProtocolOptions{
		HpackTableSize: u(1), MaxConcurrentStreams: u(2), InitialStreamWindowSize: u(70000), InitialConnectionWindowSize: u(80000), AllowConnect: true,
		MaxOutboundFrames: u(3), MaxOutboundControlFrames: u(4), MaxConsecutiveInboundFramesWithEmptyPayload: u(0), MaxInboundPriorityFramesPerStream: u(5),
		MaxInboundWindowUpdateFramesPerDataFrameSent: u(6), OverrideStreamErrorOnInvalidHttpMessage: wrapperspb.Bool(true),
		StreamResetBurst: wrapperspb.UInt64(7), StreamResetRate: wrapperspb.UInt64(8), EnableHuffmanEncoding: wrapperspb.Bool(false),
		ConnectionKeepalive: &corev3.KeepaliveSettings{
			Interval: durationpb.New(time.Second), Timeout: durationpb.New(2 * time.Second), ConnectionIdleInterval: durationpb.New(3 * time.Second),
			IntervalJitter: &typev3.Percent{Value: 1},
		},
	}, http2.Defaults())
	want := http2.Defaults()
	want.TableSize, want.MaxStreams, want.StreamWindow, want.ConnWindow, want.Connect, want.StreamErrors, want.NoHuffman = 1, 2, 70000, 80000, true, true, true
	want.FirstWindow, want.FirstConn = 70000, 80000
	want.MaxFrames, want.MaxControl, want.MaxEmpty, want.MaxPriority, want.MaxUpdates, want.ResetBurst, want.ResetRate = 3, 4, 0, 5, 6, 7, 8
	want.Keepalive = http2.Keepalive{Interval: time.Second, Timeout: 2 * time.Second, Jitter: 1, Idle: 3 * time.Second}
	want.Stats = o.Stats
	if o != want || err != nil {
		t.Errorf("%+v\nnot %+v, %v", o, want, err)
	}
	want = http2.Defaults()
	if o, err = http2.Parse(nil, want); o != want || err != nil {
		t.Errorf("%+v %v", o, err)
	}
	for _, c := range []struct {
		p    *corev3.Http2ProtocolOptions
		want string
	}{
		{&corev3.Http2ProtocolOptions{AllowMetadata: true}, "allow_metadata: "},
		{&corev3.Http2ProtocolOptions{MaxHeaderFieldSizeKb: u(61)}, "max_header_field_size_kb: "},
		{settings(2, 1), "custom_settings_parameters[0]: server push"},
		{settings(8, 1), `custom_settings_parameters[0]: the "allow_connect"`},
		{settings(5, 1), "custom_settings_parameters[0]: SETTINGS_MAX_FRAME_SIZE"},
		{settings(9, 1, 9, 2), "custom_settings_parameters[1]: inconsistent"},
		{&corev3.Http2ProtocolOptions{MaxConcurrentStreams: u(1), CustomSettingsParameters: settings(3, 1).CustomSettingsParameters}, "custom_settings_parameters[0]: the {max_concurrent_streams}"},
	} {
		if _, err := http2.Parse(c.p, want); err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%v, not %s", err, c.want)
		}
	}
}

// settings are custom_settings_parameters: identifiers and values.
func settings(pairs ...uint32) *corev3.Http2ProtocolOptions {
	p := &corev3.Http2ProtocolOptions{}
	for ; len(pairs) > 0; pairs = pairs[2:] {
		p.CustomSettingsParameters = append(p.CustomSettingsParameters, &corev3.Http2ProtocolOptions_SettingsParameter{
			Identifier: wrapperspb.UInt32(pairs[0]), Value: wrapperspb.UInt32(pairs[1]),
		})
	}
	return p
}

// TestCustomSettings are those that there is an option for, and others, which are sent as they are.
func TestCustomSettings(t *testing.T) {
	o, err := http2.Parse(settings(1, 2, 3, 4, 4, 70000, 9, 5, 9, 5, 2, 0), http2.Defaults())
	if err != nil || o.TableSize != 2 || o.MaxStreams != 4 || o.FirstWindow != 70000 || o.StreamWindow != 70000 || o.Extra != "\x00\x09\x00\x00\x00\x05" {
		t.Errorf("%+v %v", o, err)
	}
}
