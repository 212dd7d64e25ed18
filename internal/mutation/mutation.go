// Package mutation changes headers as the configuration says: additions with their append actions, and removals.
package mutation

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	mutationrulesv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"

	"github.com/outrigger-proxy/outrigger/internal/header"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// List is a compiled list of changes. The nil List changes nothing. It is immutable and for all workers.
type List struct{}

// Compile compiles what route configurations say: additions (request_headers_to_add, response_headers_to_add) and removals, which
// are applied first (as Envoy's HeaderParser does). Pseudo headers and Host cannot be changed so.
func Compile(add []*corev3.HeaderValueOption, remove []string) (*List, error) { return nil, nil }

// CompileMutations compiles an ordered list of mutations (envoy.config.common.mutation_rules.v3.HeaderMutation).
func CompileMutations(m []*mutationrulesv3.HeaderMutation) (*List, error) { return nil, nil }

// Apply changes h, which is a head or the trailers of s. Values live in the arena of s.
func (l *List) Apply(h *header.Map, s *stream.Stream) {}
