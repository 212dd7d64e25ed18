package scenario

import (
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/outrigger-proxy/outrigger/internal/fiber/fibertest"
	outrigger "github.com/outrigger-proxy/outrigger/proxy"
	"github.com/outrigger-proxy/outrigger/test/harness"
)

// starter is a way to run a proxy. Errors are those of a configuration that is refused.
type starter interface {
	start(t *testing.T, config string) (proxy, error)
	check(t *testing.T, config string) error
}

// proxy is a proxy that runs.
type proxy interface {
	Ask(method, path string) harness.Answer // the admin interface
	Address(listener string) string
	Terminate() error
}

// inside runs it in this process, on an engine.
type inside string

func (e inside) options(o *outrigger.Options) {
	o.Engine = fibertest.Engines()[string(e)]
	o.Flags.DrainTime = durationpb.New(2 * time.Second)
}

func (e inside) start(t *testing.T, config string) (proxy, error) {
	p, err := harness.New(config, e.options)
	if err != nil {
		return nil, err
	}
	return harness.Run(t, p).WaitLive(), nil
}

func (e inside) check(_ *testing.T, config string) error { return harness.Check(config, e.options) }

// binary runs a program, which stands in a path.
type binary string

func (b binary) start(t *testing.T, config string) (proxy, error) {
	return harness.Exec(t, string(b), config)
}

func (b binary) check(t *testing.T, config string) error {
	return harness.Refusal(t, string(b), config)
}
