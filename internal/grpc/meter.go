package grpc

import (
	"strings"

	"github.com/outrigger-proxy/outrigger/internal/stats"
)

// Calls counts the calls of a method at a cluster, as cluster.<name>.<protocol>.<service>.<method>. None of its statistics is shown
// before it is used. All workers count in the same place, and each has a Calls of its own for it.
type Calls struct {
	*callStats

	// set at construction
	scope stats.Scope
	// owned by the worker
	statuses [len(names)]*stats.Counter // by grpc-status; nil: not used yet
}

type callStats struct {
	Success   stats.Counter   `stat:"success,lazy"`
	Failure   stats.Counter   `stat:"failure,lazy"`
	Total     stats.Counter   `stat:"total,lazy"`
	Requests  stats.Counter   `stat:"request_message_count,lazy"`
	Responses stats.Counter   `stat:"response_message_count,lazy"`
	Time      stats.Histogram `stat:"upstream_rq_time,lazy"` // in milliseconds
}

// Ended counts the end of a call by its grpc-status.
func (c *Calls) Ended(status string) {
	c.status(status).Inc()
	c.Done(status == "0")
}

// Done counts the end of a call that has no grpc-status.
func (c *Calls) Done(success bool) {
	if success {
		c.Success.Inc()
	} else {
		c.Failure.Inc()
	}
	c.Total.Inc()
}

// status is the counter of a grpc-status, which may be any text.
func (c *Calls) status(text string) *stats.Counter {
	s := ParseStatus(text)
	if !s.Known() || len(text) > 1 && text[0] == '0' {
		return c.scope.Counter(strings.Clone(text))
	}
	if c.statuses[s] == nil {
		c.statuses[s] = c.scope.Counter(strings.Clone(text))
	}
	return c.statuses[s]
}

// Book finds the Calls of methods. It belongs to one worker. It grows with the names that it is asked for: where clients choose them, as
// in paths, they have to be trusted.
type Book struct {
	protocol string
	noDots   bool
	pages    map[page]*Calls
}

type page struct{ cluster, service, method string }

// NewBook makes an empty Book. protocol is "grpc" or "grpc-web"; noDots writes the dots in the names of services as underscores.
func NewBook(protocol string, noDots bool) *Book {
	return &Book{protocol: protocol, noDots: noDots, pages: map[page]*Calls{}}
}

// Calls returns the statistics of a method at the cluster of a scope (cluster.<name>.), or of all calls without a name if service and
// method are empty.
func (b *Book) Calls(cluster stats.Scope, service, method string) *Calls {
	p := page{cluster.Prefix(), service, method}
	if c := b.pages[p]; c != nil {
		return c
	}
	p.service, p.method = strings.Clone(service), strings.Clone(method)
	scope := cluster.Sub(b.protocol)
	if method != "" {
		if service = p.service; b.noDots {
			service = strings.ReplaceAll(service, ".", "_")
		}
		scope = scope.Sub(service).Sub(p.method)
	}
	c := &Calls{callStats: stats.New[callStats](scope), scope: scope}
	b.pages[p] = c
	return c
}
