// Package eds is the source of endpoints that a control plane assigns (envoy.config.cluster.v3.Cluster.EdsClusterConfig).
package eds

import (
	"fmt"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"

	"github.com/outrigger-proxy/outrigger/cluster/discovery"
	"github.com/outrigger-proxy/outrigger/internal/stats"
	"github.com/outrigger-proxy/outrigger/internal/subscription"
)

// Config is what a Source is made of.
type Config struct {
	Name   string               // service_name, or the cluster's
	From   *corev3.ConfigSource // eds_config
	Source subscription.Source
	Scope  stats.Scope // cluster.<name>.
	Counts discovery.Counts
	After  discovery.Timer
	// Limited counts assignments that hold for a time, Stale those that have not been renewed in it.
	Limited, Stale *stats.Counter
}

// Source is a discovery.Source.
type Source struct {
	// set at construction
	config Config
	wish   subscription.Subscription
	// owned by the control loop
	update func(*discovery.Assignment)
	closed bool
	stale  time.Duration // of the current assignment
	stop   func()        // of the time that it holds for
}

// New makes a source; nothing is asked for before Start. The error begins with the field of eds_config.
func New(c Config) (*Source, error) {
	s := &Source{config: c}
	var err error
	s.wish, err = c.Source.Subscribe(c.From, subscription.Wish{
		Type: subscription.Endpoints(), Names: []string{c.Name}, Scope: c.Scope, Watcher: watcher{s},
	})
	return s, err
}

// Start asks for the assignment.
func (s *Source) Start(update func(*discovery.Assignment)) {
	s.update = update
	s.wish.Start()
}

// Close ends it.
func (s *Source) Close() {
	s.closed = true
	s.rest()
	s.wish.Close()
}

// watcher is the side of a Source that the subscription sees.
type watcher struct{ s *Source }

// Update takes an assignment in. That there is none (any more) changes nothing, but nobody waits for it.
func (w watcher) Update(u *subscription.Update) error {
	s := w.s
	switch len(u.Resources) {
	case 0:
		s.config.Counts.Empty()
		s.update(nil)
		return nil
	case 1:
	default:
		return fmt.Errorf("Unexpected EDS resource length: %d", len(u.Resources))
	}
	if u.Resources[0].Same {
		s.config.Counts.Unchanged()
		s.expire()
		return nil
	}
	p, ok := u.Resources[0].Message.(*endpointv3.ClusterLoadAssignment)
	if !ok || p.GetClusterName() != s.config.Name {
		return fmt.Errorf("Unexpected EDS cluster (expecting %s): %s", s.config.Name, p.GetClusterName())
	}
	a, err := discovery.Parse(p, false)
	if err != nil {
		return err
	}
	s.stale = a.Stale
	s.expire()
	s.update(a)
	return nil
}

// expire begins the time for which the assignment that has come holds; nothing is left of it afterwards.
func (s *Source) expire() {
	s.rest()
	if s.stale == 0 {
		return
	}
	s.config.Limited.Inc()
	s.stop = s.config.After(s.stale, func() {
		s.config.Stale.Inc()
		s.update(&discovery.Assignment{Overprovisioning: 140})
	})
}

func (s *Source) rest() {
	if s.stop != nil {
		s.stop()
		s.stop = nil
	}
}

// Failed lets nobody wait any longer.
func (w watcher) Failed() { w.s.update(nil) }
