package http2

import (
	"encoding/binary"
	"errors"
	"fmt"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// Parse takes what p says into o, which has the defaults; p may be nil. Errors begin with the field.
func Parse(p *corev3.Http2ProtocolOptions, o Options) (Options, error) {
	if err := refuse(p, o.HeadLimit); err != nil {
		return o, err
	}
	if err := custom(p, &o); err != nil {
		return o, err
	}
	if v := p.GetMaxHeaderFieldSizeKb(); v != nil {
		o.TextLimit = v.GetValue() << 10
	}
	o.NoObsText = p.GetDisallowObsText().GetValue()
	number(&o.TableSize, p.GetHpackTableSize())
	number(&o.MaxStreams, p.GetMaxConcurrentStreams())
	number(&o.StreamWindow, p.GetInitialStreamWindowSize())
	number(&o.FirstWindow, p.GetInitialStreamWindowSize())
	number(&o.ConnWindow, p.GetInitialConnectionWindowSize())
	number(&o.FirstConn, p.GetInitialConnectionWindowSize())
	number(&o.MaxFrames, p.GetMaxOutboundFrames())
	number(&o.MaxControl, p.GetMaxOutboundControlFrames())
	number(&o.MaxEmpty, p.GetMaxConsecutiveInboundFramesWithEmptyPayload())
	number(&o.MaxPriority, p.GetMaxInboundPriorityFramesPerStream())
	number(&o.MaxUpdates, p.GetMaxInboundWindowUpdateFramesPerDataFrameSent())
	if v := p.GetStreamResetBurst(); v != nil {
		o.ResetBurst = v.GetValue()
	}
	if v := p.GetStreamResetRate(); v != nil {
		o.ResetRate = v.GetValue()
	}
	o.Connect = p.GetAllowConnect()
	o.StreamErrors = p.GetStreamErrorOnInvalidHttpMessaging() // deprecated, and still in force in Envoy
	if v := p.GetOverrideStreamErrorOnInvalidHttpMessage(); v != nil {
		o.StreamErrors = v.GetValue()
	}
	if v := p.GetEnableHuffmanEncoding(); v != nil {
		o.NoHuffman, o.AlwaysHuffman = !v.GetValue(), v.GetValue()
	}
	if k := p.GetConnectionKeepalive(); k != nil {
		o.Keepalive = Keepalive{
			Interval: k.GetInterval().AsDuration(), Timeout: k.GetTimeout().AsDuration(), Jitter: 15,
			Idle: k.GetConnectionIdleInterval().AsDuration(),
		}
		if j := k.GetIntervalJitter(); j != nil {
			o.Keepalive.Jitter = j.GetValue()
		}
	}
	return o, nil
}

func refuse(p *corev3.Http2ProtocolOptions, headLimit int) error {
	switch {
	case p.GetAllowMetadata():
		return errors.New("allow_metadata: is not supported: METADATA frames are ignored")
	case p.GetMaxHeaderFieldSizeKb().GetValue()<<10 > uint32(headLimit):
		return errors.New("max_header_field_size_kb: is more than a head may have in all")
	}
	return nil
}

// custom takes in custom_settings_parameters. What has a field of its own may not be said here as well.
func custom(p *corev3.Http2ProtocolOptions, o *Options) error {
	var b []byte
	said := map[uint32]uint32{}
	for i, s := range p.GetCustomSettingsParameters() {
		id, v := s.GetIdentifier().GetValue(), s.GetValue().GetValue()
		if had, twice := said[id]; twice && had == v {
			continue
		} else if twice {
			return fmt.Errorf("custom_settings_parameters[%d]: inconsistent HTTP/2 custom SETTINGS parameter(s) detected; identifiers = {0x%02x}", i, id)
		}
		said[id] = v
		own, err := o.setting(p, id, v)
		if err != nil {
			return fmt.Errorf("custom_settings_parameters[%d]: %w", i, err)
		}
		if !own {
			b = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(b, uint16(id)), v)
		}
	}
	o.Extra = string(b)
	return nil
}

// setting takes in a parameter that there is an option for.
func (o *Options) setting(p *corev3.Http2ProtocolOptions, id, v uint32) (own bool, err error) {
	named := func(name string, said bool, to ...*uint32) (bool, error) {
		if said {
			return true, fmt.Errorf("the {%s} HTTP/2 SETTINGS parameter(s) can not be configured through both named and custom parameters", name)
		}
		for _, t := range to {
			*t = v
		}
		return true, nil
	}
	switch id {
	case settingTableSize:
		return named("hpack_table_size", p.GetHpackTableSize() != nil, &o.TableSize)
	case settingMaxStreams:
		return named("max_concurrent_streams", p.GetMaxConcurrentStreams() != nil, &o.MaxStreams)
	case settingWindow:
		return named("initial_stream_window_size", p.GetInitialStreamWindowSize() != nil, &o.FirstWindow, &o.StreamWindow)
	case settingConnect:
		return true, errors.New("the \"allow_connect\" SETTINGS parameter must only be configured through the named field")
	case settingMaxFrame:
		return true, errors.New("SETTINGS_MAX_FRAME_SIZE is not supported: frames have 16 KiB at most")
	case settingPush:
		if v != 0 {
			return true, errors.New("server push is not supported by Envoy and can not be enabled via a SETTINGS parameter")
		}
		return true, nil
	}
	return false, nil
}

func number(to *uint32, v *wrapperspb.UInt32Value) {
	if v != nil {
		*to = v.GetValue()
	}
}
