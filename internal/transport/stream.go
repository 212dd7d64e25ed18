package transport

import (
	"errors"
	"fmt"
	"time"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"github.com/outrigger-proxy/outrigger/internal/stats"
	"github.com/outrigger-proxy/outrigger/internal/subscription"
)

// Secrets that a control plane sends (SDS over a stream). The subscription counts; what comes is tried before anybody uses it.

// ask begins the subscription of a secret.
func (d *secret) ask(p *tlsv3.SdsSecretConfig) (err error) {
	s := d.s
	if s.Resources == nil {
		return errors.New("there is no control plane to ask")
	}
	d.wish, err = s.Resources.Subscribe(p.GetSdsConfig(), subscription.Wish{
		Type: subscription.Secrets(), Names: []string{p.GetName()}, Scope: s.scope.Sub("sds").Sub(p.GetName()), Watcher: sent{d},
	})
	if err == nil {
		d.rotation = stats.New[rotationStats](s.scope.Sub("sds").Sub(p.GetName()))
	}
	return err
}

// sent is the side of a secret that the subscription sees.
type sent struct{ d *secret }

// Update takes a secret in, if it can be used.
func (w sent) Update(u *subscription.Update) error {
	d := w.d
	switch len(u.Resources) {
	case 0:
		d.answered()
		return nil // it was removed: the last good one stays
	case 1:
	default:
		return fmt.Errorf("Unexpected SDS secrets length: %d", len(u.Resources))
	}
	if u.Resources[0].Same {
		return nil
	}
	p, ok := u.Resources[0].Message.(*tlsv3.Secret)
	if !ok {
		return fmt.Errorf("%s is not a secret", u.Resources[0].Name)
	}
	if err := d.fits(p); err != nil {
		return err
	}
	d.follow(p)
	d.changed()
	d.secret, d.version, d.updated = p, u.Resources[0].Version, time.Now()
	err := d.spread()
	d.answered()
	return err
}

// Failed lets nobody wait any longer.
func (w sent) Failed() { w.d.answered() }

// fits says whether p is the secret that was asked for, and can be used.
func (d *secret) fits(p *tlsv3.Secret) error {
	switch {
	case p.GetName() != d.key.name:
		return fmt.Errorf("Unexpected SDS secret (expecting %s): %s", d.key.name, p.GetName())
	case kindOf(p) != d.key.kind:
		return fmt.Errorf("resources[0]: %s is a %s, not a %s", p.GetName(), kindOf(p), d.key.kind)
	}
	if err := try(p); err != nil {
		return fmt.Errorf("resources[0].%s.%w", d.key.kind, err)
	}
	return nil
}

// spread lets everybody know who uses the secret. It returns the first error: somebody cannot use it.
func (d *secret) spread() (first error) {
	for _, c := range d.users {
		if err := c.update(); err != nil {
			d.s.log.Warn("a secret cannot be used", zap.String("secret", d.key.name), zap.Error(err))
			if first == nil {
				first = err
			}
		}
	}
	return first
}

// answered lets those go on who wait for the first answer.
func (d *secret) answered() {
	d.heard = true
	for _, c := range d.users {
		c.heard()
	}
}

// heard lets the listener or cluster go on when every secret has been answered for.
func (c *context) heard() {
	if c.warm == nil || !c.answered() {
		return
	}
	warm := c.warm
	c.warm = nil
	warm()
}

// answered says whether every secret that is asked for has come, or will not in time.
func (c *context) answered() bool {
	for _, d := range c.follows {
		if d.wish != nil && !d.heard {
			return false
		}
	}
	return true
}

// sourceKey tells sources apart.
func sourceKey(p *tlsv3.SdsSecretConfig) string {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(p.GetSdsConfig())
	if err != nil {
		return ""
	}
	return string(b)
}
