package setmetadata

import (
	"errors"
	"fmt"

	setmetadatav3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/set_metadata/v3"
)

// entry is one namespace to write.
type entry struct {
	namespace string
	overwrite bool
	value     map[string]any
}

// parse reads the list, and before it what is said in the deprecated way, which always overwrites.
func parse(p *setmetadatav3.Config) ([]entry, error) {
	var all []entry
	if p.GetValue() != nil {
		if p.GetMetadataNamespace() == "" {
			return nil, errors.New("metadata_namespace: is required beside value")
		}
		all = append(all, entry{p.GetMetadataNamespace(), true, p.GetValue().AsMap()})
	}
	for i, m := range p.GetMetadata() {
		switch {
		case m.GetTypedValue() != nil:
			return nil, fmt.Errorf("metadata[%d].typed_value: is not supported", i)
		case m.GetValue() == nil:
			continue
		}
		all = append(all, entry{m.GetMetadataNamespace(), m.GetAllowOverwrite(), m.GetValue().AsMap()})
	}
	return all, nil
}
