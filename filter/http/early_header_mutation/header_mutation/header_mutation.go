// Package headermutation is envoy.http.early_header_mutation.header_mutation
// (type.googleapis.com/envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation): it changes the head of a request
// before the connection manager looks at it.
package headermutation

import (
	"fmt"

	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/early_header_mutation/header_mutation/v3"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/mutation"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// Mutation is the extension.
type Mutation struct{ list *mutation.List }

// New builds it.
func New(p *mutationv3.HeaderMutation, _ filter.Env) (filter.EarlyMutation, error) {
	l, err := mutation.CompileMutations(p.GetMutations())
	if err != nil {
		return nil, fmt.Errorf("mutations%w", err)
	}
	return &Mutation{l}, nil
}

// Mutate changes the head; the next mutation follows.
func (m *Mutation) Mutate(s *stream.Stream) bool {
	m.list.Apply(&s.Request.Header, s)
	return true
}
