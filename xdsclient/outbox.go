package xdsclient

import (
	"context"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/proto"
)

// outbox are the requests of a stream that wait to be sent: the control loop never waits for a server that does not read.
type outbox struct {
	stats *controlStats

	mu    sync.Mutex // guards queue
	queue []proto.Message
	wake  chan struct{}
}

func newOutbox(s *controlStats) *outbox { return &outbox{stats: s, wake: make(chan struct{}, 1)} }

func (o *outbox) push(m proto.Message) {
	o.mu.Lock()
	o.queue = append(o.queue, m)
	o.mu.Unlock()
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

func (o *outbox) take() []proto.Message {
	o.mu.Lock()
	defer o.mu.Unlock()
	q := o.queue
	o.queue = nil
	return q
}

// run sends until the context ends or sending fails.
func (o *outbox) run(ctx context.Context, l *limiter, send func(proto.Message) error) {
	for {
		q := o.take()
		for i, m := range q {
			o.stats.Pending.Set(int64(len(q) - i))
			if !l.wait(ctx, o.stats) || send(m) != nil {
				return
			}
		}
		o.stats.Pending.Set(0)
		select {
		case <-o.wake:
		case <-ctx.Done():
			return
		}
	}
}

// limiter bounds how many requests are sent in a time (RateLimitSettings): a bucket of tokens that is filled at a rate. Nil: no bound.
type limiter struct {
	most, tokens, rate float64
	last               time.Time
}

// Envoy's defaults where rate_limit_settings is there.
const (
	defaultTokens = 100
	defaultRate   = 10
)

func newLimiter(p *corev3.RateLimitSettings) *limiter {
	if p == nil {
		return nil
	}
	l := &limiter{most: defaultTokens, rate: defaultRate, last: time.Now()}
	if n := p.GetMaxTokens(); n != nil {
		l.most = float64(n.GetValue())
	}
	if r := p.GetFillRate(); r != nil {
		l.rate = r.GetValue()
	}
	l.tokens = l.most
	return l
}

// wait takes a token, and waits for it if it must; false: the context has ended.
func (l *limiter) wait(ctx context.Context, s *controlStats) bool {
	if l == nil {
		return ctx.Err() == nil
	}
	for limited := false; ; {
		now := time.Now()
		l.tokens = min(l.most, l.tokens+now.Sub(l.last).Seconds()*l.rate)
		l.last = now
		if l.tokens >= 1 {
			l.tokens--
			return true
		}
		if !limited {
			limited = true
			s.Limited.Inc()
		}
		select {
		case <-time.After(time.Duration((1 - l.tokens) / l.rate * float64(time.Second))):
		case <-ctx.Done():
			return false
		}
	}
}
