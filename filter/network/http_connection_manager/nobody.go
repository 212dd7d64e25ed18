package hcm

import (
	"errors"
	"time"

	"github.com/outrigger-proxy/outrigger/filter"
)

// nobody ends a chain without filters: no request is ever answered, as in Envoy, but for what the limits of the stream say.
type nobody struct{}

// Serve waits until the client has had enough.
func (nobody) Serve(s *filter.Stream) {
	const forever = 365 * 24 * time.Hour
	var t *filter.TimeoutError
	if err := s.Worker.Sleep(forever); errors.As(err, &t) {
		s.TimedOut(t)
	}
}
