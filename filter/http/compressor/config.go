package compressor

import (
	"errors"
	"fmt"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	compressorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/compressor/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/outrigger-proxy/outrigger/internal/match"
	"github.com/outrigger-proxy/outrigger/internal/runtime"
)

// settings is what the message says, with Envoy's defaults filled in.
type settings struct {
	name          string // of the library, in the configuration
	library       *library
	enabled       runtime.Feature
	least         uint32
	types         map[string]bool // nil: matchers decide, and all are fine if there are none
	matchers      []match.String
	codes         []uint32
	disableOnETag bool
	weaken        bool
	removeAccept  bool
	chooseFirst   bool
	bothWays      bool // the statistics of the directions have names of their own
}

const defaultLeast = 30

func parse(p *compressorv3.Compressor) (*settings, error) {
	d := p.GetResponseDirectionConfig()
	c := d.GetCommonConfig()
	s := &settings{name: p.GetCompressorLibrary().GetName(), least: defaultLeast, chooseFirst: p.GetChooseFirst(), bothWays: p.GetRequestDirectionConfig() != nil}
	if d != nil {
		s.disableOnETag, s.removeAccept, s.weaken, s.codes = d.GetDisableOnEtagHeader(), d.GetRemoveAcceptEncodingHeader(), d.GetWeakenEtagOnCompress(), d.GetUncompressibleResponseCodes()
	} else { // the fields that came before it
		s.disableOnETag, s.removeAccept = p.GetDisableOnEtagHeader(), p.GetRemoveAcceptEncodingHeader()
		c = &compressorv3.Compressor_CommonDirectionConfig{Enabled: p.GetRuntimeEnabled(), MinContentLength: p.GetContentLength(), ContentType: p.GetContentType()}
	}
	switch {
	case off(p.GetRequestDirectionConfig()):
	case p.GetRequestDirectionConfig() != nil:
		return nil, errors.New("request_direction_config: requests are not compressed yet")
	case d.GetStatusHeaderEnabled():
		return nil, errors.New("response_direction_config.status_header_enabled: is not supported yet")
	}
	if n := c.GetMinContentLength(); n != nil {
		s.least = n.GetValue()
	}
	s.enabled = runtime.CompileFeature(c.GetEnabled(), true)
	var err error
	if s.matchers, err = match.CompileStrings(c.GetContentTypeMatcher()); err != nil {
		return nil, fmt.Errorf("response_direction_config.common_config.content_type_matcher%w", err)
	}
	if len(c.GetContentType()) > 0 || len(s.matchers) == 0 {
		s.types = contentTypes(c.GetContentType())
	}
	s.library, err = newLibrary(p.GetCompressorLibrary())
	return s, err
}

// off says whether requests are left alone, for ever.
func off(p *compressorv3.Compressor_RequestDirectionConfig) bool {
	e := p.GetCommonConfig().GetEnabled()
	return e != nil && e.GetRuntimeKey() == "" && e.GetDefaultValue() != nil && !e.GetDefaultValue().GetValue()
}

// contentTypes is the set of a list; an empty one means Envoy's.
func contentTypes(list []string) map[string]bool {
	if len(list) == 0 {
		list = []string{
			"text/html", "text/plain", "text/css", "application/javascript", "application/x-javascript", "text/javascript",
			"text/x-javascript", "text/ecmascript", "text/js", "text/jscript", "text/x-js", "application/ecmascript", "application/x-json",
			"application/xml", "application/json", "image/svg+xml", "text/xml", "application/xhtml+xml",
		}
	}
	set := map[string]bool{}
	for _, t := range list {
		set[t] = true
	}
	return set
}

func or(v *wrapperspb.UInt32Value, absent int) int {
	if v == nil {
		return absent
	}
	return int(v.GetValue())
}

func unregistered(p *corev3.TypedExtensionConfig) error {
	return fmt.Errorf("compressor_library: didn't find a registered implementation for '%s' with type URL: '%s'", p.GetName(), p.GetTypedConfig().GetTypeUrl())
}
