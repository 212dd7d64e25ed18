// Package directresponse is envoy.filters.network.direct_response
// (type.googleapis.com/envoy.extensions.filters.network.direct_response.v3.Config): it sends a fixed answer to every connection and
// closes it, whatever the client has to say. It is a terminal filter.
package directresponse

import (
	"fmt"

	directresponsev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/direct_response/v3"

	"github.com/outrigger-proxy/outrigger/filter"
)

type response struct{ body []byte }

// New builds it; files and environment variables are read now.
func New(p *directresponsev3.Config, _ filter.Env) (any, error) {
	b, err := load(p.GetResponse())
	if err != nil {
		return nil, fmt.Errorf("response.%w", err)
	}
	return response{b}, nil
}

// Open answers on a fiber, because a client that does not read makes it wait.
func (r response) Open(c *filter.Conn) {
	c.Worker.Go(func() {
		n, _ := c.Write(r.body)
		if c.Stream != nil {
			c.Stream.Info.BytesOut = int64(n)
			c.Stream.Info.Details = "direct_response"
		}
		_ = c.Close()
		c.Ended()
	})
}
