package cluster

import (
	"errors"
	"fmt"
	"strings"
	"time"

	udpav1 "github.com/cncf/xds/go/udpa/type/v1"
	xdsv3 "github.com/cncf/xds/go/xds/type/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/header"
	"github.com/outrigger-proxy/outrigger/internal/orca"
	"github.com/outrigger-proxy/outrigger/internal/runtime"
	"github.com/outrigger-proxy/outrigger/lb"
)

// learning is what a policy wants to hear of responses.
type learning struct {
	orca   *lb.Orca // load reports; nil: no
	period time.Duration
	ewma   *lb.PeakEWMA  // latencies; nil: no
	areas  *lb.LoadAware // load reports, for localities; nil: no
	stream *outOfBand    // where the reports come from; nil: from responses
}

func (l *learning) on() bool { return l.orca != nil || l.ewma != nil || l.areas != nil }

// PeakEWMA is the type of our own policy, for a TypedStruct (xds.type.v3 or udpa.type.v1): Envoy has no message for it.
const PeakEWMA = "outrigger.extensions.load_balancing_policies.peak_ewma.v1.PeakEwma"

// own takes a policy that has no message but a TypedStruct.
func (o *config) own(a *anypb.Any) (known bool, err error) {
	url, value := "", (*structpb.Struct)(nil)
	switch x, u := (&xdsv3.TypedStruct{}), (&udpav1.TypedStruct{}); {
	case a.MessageIs(x) && proto.Unmarshal(a.GetValue(), x) == nil:
		url, value = x.GetTypeUrl(), x.GetValue()
	case a.MessageIs(u) && proto.Unmarshal(a.GetValue(), u) == nil:
		url, value = u.GetTypeUrl(), u.GetValue()
	}
	if url[strings.LastIndexByte(url, '/')+1:] != PeakEWMA {
		return false, nil
	}
	p := lb.PeakEWMA{Decay: 10 * time.Second, Default: 30 * time.Millisecond}
	for k, v := range value.GetFields() {
		switch k {
		case "decay_time", "decayTime":
			err = positive(&p.Decay, v)
		case "default_rtt", "defaultRtt":
			err = positive(&p.Default, v)
		default:
			err = errors.New("no such field")
		}
		if err != nil {
			return true, fmt.Errorf("value.%s: %w", k, err)
		}
	}
	o.lb.learning.ewma, o.lb.timed = &p, true
	o.lb.policy = func(*runtime.Snapshot) lb.Policy { return p }
	return true, nil
}

// positive reads a duration of more than 0, such as "1.5s".
func positive(d *time.Duration, v *structpb.Value) error {
	text := v.GetStringValue()
	n, err := time.ParseDuration(text)
	if err != nil || !strings.HasSuffix(text, "s") || strings.ContainsAny(text, "mhnuµ") || n <= 0 {
		return errors.New(`a duration of more than 0s is needed, such as "1.5s"`)
	}
	*d = n
	return nil
}

// Learns says whether the policy wants to hear of responses: Learn, LearnTrailer and LearnFailure.
func (c *Cluster) Learns() bool { return c.config.lb.learning.on() }

// Learn takes in the head of a response of h, which came so long after the request.
func (c *Cluster) Learn(w *fiber.Worker, h *Host, head *header.Map, took time.Duration) {
	if l := &c.config.lb.learning; l.ewma != nil && h.member.load != nil {
		l.ewma.Learn(h.member.load, took, c.moment(w))
	}
	c.LearnTrailer(w, h, head)
}

// LearnTrailer takes in a load report, which may stand in the trailer as well.
func (c *Cluster) LearnTrailer(w *fiber.Worker, h *Host, fields *header.Map) {
	l := &c.config.lb.learning
	if l.orca == nil && l.areas == nil || l.stream != nil || h.member.load == nil {
		return
	}
	if r, ok, _ := orca.Read(fields); ok { // a report that nobody understands is none
		_ = l.learn(h.member, &r, c.moment(w)) // neither is one without a rate or a utilization
	}
}

// learn takes in a report of a host. Any goroutine may call it.
func (l *learning) learn(m *member, r *orca.Report, now time.Duration) error {
	if l.areas != nil {
		l.areas.Learn(m.load, r, now)
		return nil
	}
	return l.orca.Learn(m.load, r, now)
}

// LearnFailure takes in that a request has come to no response: that is no quick one.
func (c *Cluster) LearnFailure(w *fiber.Worker, h *Host) {
	if l := &c.config.lb.learning; l.ewma != nil && h.member.load != nil {
		l.ewma.Learn(h.member.load, l.ewma.Decay, c.moment(w))
	}
}

// moment is the time on the manager's clock, for policies.
func (c *Cluster) moment(w *fiber.Worker) time.Duration { return w.Wall().Sub(c.m.epoch) }

// weigh gives hosts or localities their weights anew, again and again, until the cluster is closed.
func (c *Cluster) weigh() {
	l := &c.config.lb.learning
	if l.orca == nil && l.areas == nil {
		return
	}
	c.stopWeighing = c.m.after(l.period, func() {
		if c.closed {
			return
		}
		c.reweigh()
		c.weigh()
	})
}

// reweigh publishes another version with the same hosts if their weights have changed: pickers are built anew then.
func (c *Cluster) reweigh() {
	v := *c.hosts.Load()
	if c.config.lb.learning.areas != nil {
		c.weighAreas(&v)
		return
	}
	loads := make([]*lb.Load, len(v.list))
	for i, h := range v.list {
		loads[i] = h.member.load
	}
	if c.config.lb.learning.orca.Apply(loads, c.m.now()) {
		c.hosts.Store(&v)
	}
}

// weighAreas divides the traffic among localities anew.
func (c *Cluster) weighAreas(v *hosts) {
	all := v.priorities[0].localities
	areas := make([][]*lb.Load, len(all))
	for i := range all {
		for _, h := range all[i].sets[healthy] {
			areas[i] = append(areas[i], h.member.load)
		}
	}
	local := len(all) > 0 && all[0].name == c.m.env.Locality
	c.areas.Store(c.config.lb.learning.areas.Weigh(areas, local, c.m.now()))
}

// buildAreas makes a version of each locality's hosts.
func (c *Cluster) buildAreas(v, before *hosts) {
	c.Stats.RecalculateZones.Add(c.balancerCount()) // what comes of reports does not count, as in Envoy
	if before.areas == nil {
		c.Stats.RecalculateZones.Add(c.balancerCount())
	}
	if c.hashing != nil { // one table for all of them: a key keeps its host whatever the locality, as in Envoy
		c.finish(v, before, true)
	}
	p := part{c, v, nil}
	for i := range v.priorities[0].localities {
		var old *hosts
		if i < len(before.areas) {
			old = before.areas[i]
		}
		v.areas = append(v.areas, p.build(v.priorities[0].localities[i].sets[everybody], old))
	}
	c.weighAreas(v)
}

// area picks in the locality that the room of all of them decides.
func (b *balancer) area(c *Cluster, r *lb.Request) *Host {
	areas := b.hosts.areas
	if len(areas) == 0 {
		return nil
	}
	w := c.areas.Load()
	i := w.Choose(lb.Next(r.Random), len(areas))
	switch {
	case !w.Local:
	case i > 0:
		c.Stats.ZoneCross.Inc()
	case w.AllLocal:
		c.Stats.ZoneAllDirectly.Inc()
	default:
		c.Stats.ZoneSampled.Inc()
	}
	if b.tables != nil {
		return b.hashed(c, r)
	}
	return b.of(areas[i]).pick(c, r)
}
