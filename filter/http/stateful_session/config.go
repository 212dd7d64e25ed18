package statefulsession

import (
	"fmt"

	sessionv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/stateful_session/v3"

	"github.com/outrigger-proxy/outrigger/filter"
)

type config struct {
	state  filter.SessionState // nil: there are no sessions
	strict bool
	status int // where strict, and no host has the address
}

// parse reads p, and builds the extension that it names.
func parse(p *sessionv3.StatefulSession, env filter.Env) (*config, error) {
	c := &config{strict: p.GetStrict(), status: 503}
	if n := p.GetStatusOnStrictDestinationNotFound(); n != 0 {
		if n < 200 || n > 599 {
			return nil, fmt.Errorf("status_on_strict_destination_not_found: %d is no status of a response", n)
		}
		c.status = int(n)
	}
	e := p.GetSessionState()
	if e == nil {
		return c, nil
	}
	env.Name = e.GetName()
	var err error
	if c.state, err = env.Extensions.SessionState.Build(e.GetTypedConfig(), env); err != nil {
		return nil, fmt.Errorf("session_state.typed_config: %w", err)
	}
	return c, nil
}
