package transport

import (
	"errors"
	"fmt"
	"os"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/outrigger-proxy/outrigger/internal/protofile"
)

// readResponse reads an envoy.service.discovery.v3.DiscoveryResponse from a file. The package of that message would bring gRPC along,
// which is a quarter of the binary, so its two fields that matter here are read without it.
func readResponse(path string) (version string, resources []*anypb.Any, err error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return "", nil, err
	}
	switch protofile.FormatOf(path) {
	case protofile.Binary:
		return binaryResponse(raw)
	case protofile.Text:
		return "", nil, errors.New("secrets in text format are not supported; use YAML, JSON or binary")
	}
	v, err := protofile.Value(raw)
	if err != nil {
		return "", nil, err
	}
	fields := v.GetStructValue().GetFields()
	for name := range fields {
		switch name {
		case "version_info", "versionInfo", "resources", "type_url", "typeUrl", "nonce", "canary", "control_plane", "controlPlane":
		default:
			return "", nil, fmt.Errorf("%s: no such field in DiscoveryResponse", name)
		}
	}
	version = fields["version_info"].GetStringValue() + fields["versionInfo"].GetStringValue()
	for i, r := range fields["resources"].GetListValue().GetValues() {
		a := &anypb.Any{}
		unknown, err := protofile.FromStruct(r.GetStructValue(), a)
		if err == nil {
			err = protofile.Refuse(unknown)
		}
		if err != nil {
			return "", nil, fmt.Errorf("resources[%d]: %w", i, err)
		}
		resources = append(resources, a)
	}
	return version, resources, nil
}

// The numbers of the fields of DiscoveryResponse.
const (
	versionField   = 1
	resourcesField = 2
)

func binaryResponse(b []byte) (version string, resources []*anypb.Any, err error) {
	for len(b) > 0 {
		field, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return "", nil, protowire.ParseError(n)
		}
		b = b[n:]
		if kind != protowire.BytesType || field > resourcesField {
			if n = protowire.ConsumeFieldValue(field, kind, b); n < 0 {
				return "", nil, protowire.ParseError(n)
			}
			b = b[n:]
			continue
		}
		v, n := protowire.ConsumeBytes(b)
		if n < 0 {
			return "", nil, protowire.ParseError(n)
		}
		b = b[n:]
		if field == versionField {
			version = string(v)
			continue
		}
		a := &anypb.Any{}
		if err := proto.Unmarshal(v, a); err != nil {
			return "", nil, err
		}
		resources = append(resources, a)
	}
	return version, resources, nil
}
