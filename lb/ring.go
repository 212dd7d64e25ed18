package lb

import (
	"math"
	"math/bits"
	"slices"
	"strconv"
	"sync/atomic"

	"github.com/cespare/xxhash/v2"
)

// Hashing is a policy that looks at Request.Hash: a key leads to the same host for as long as that is there. What it builds for a host
// list serves all workers, and is built off them. For other policies nobody computes a hash, nor gives clients a cookie for it.
type Hashing interface {
	Table(hosts []Share) Table
}

// Share is a host and its part of the traffic.
type Share struct {
	// Key is what the host's places depend on: its address, its name, or the hash_key of its metadata.
	Key string
	// Part is the host's weight, divided by the weights of all.
	Part   float64
	Active *atomic.Int64 // requests in flight
}

// Table leads from hashes to hosts.
type Table interface {
	// Picker is what a worker picks with.
	Picker() Picker
	// Places says how many places the table has, and how many the hosts with the fewest and the most of them.
	Places() (all, least, most uint64)
}

// Ring is consistent hashing as ketama does it (envoy.load_balancing_policies.ring_hash): each host has places on a ring of hashes, and
// the first place at or behind the hash of a request is that of its host.
type Ring struct {
	Least, Most uint64 // minimum_ring_size, maximum_ring_size
	Murmur      bool   // MURMUR_HASH_2 instead of XX_HASH
}

// ring is sorted by hash. starts is an index over the upper bits: the ring is about evenly filled, so the place is a step from there.
type ring struct {
	hashes            []uint64
	hosts, starts     []uint32
	shift             int
	size, least, most uint64
}

// Table lets each host have places in proportion to its part, but whole ones: what is left over goes to the host behind it. The places
// of Envoy are the same ones.
func (p Ring) Table(hosts []Share) Table {
	t := &ring{}
	if len(hosts) == 0 {
		return t
	}
	smallest := 1.
	for i := range hosts {
		smallest = min(smallest, hosts[i].Part)
	}
	scale := min(math.Ceil(smallest*float64(p.Least))/smallest, float64(p.Most))
	t.size = uint64(math.Ceil(scale))
	t.least = t.size
	t.fill(hosts, scale, p.hash)
	return t
}

func (p Ring) hash(b []byte) uint64 {
	if p.Murmur {
		return murmur(b)
	}
	return xxhash.Sum64(b)
}

// place is one of a host's on the ring.
type place struct {
	hash uint64
	host uint32
}

func (t *ring) fill(hosts []Share, scale float64, hash func([]byte) uint64) {
	places := make([]place, 0, t.size)
	var buf []byte
	is, shall := 0., 0.
	for i := range hosts {
		buf = append(append(buf[:0], hosts[i].Key...), '_')
		stem := len(buf)
		shall += float64(scale * hosts[i].Part) // rounded here, also where the processor could add in one step
		n := uint64(0)
		for ; is < shall; is++ {
			buf = strconv.AppendUint(buf[:stem], n, 10)
			places = append(places, place{hash(buf), uint32(i)})
			n++
		}
		t.least, t.most = min(t.least, n), max(t.most, n)
	}
	slices.SortFunc(places, func(a, b place) int {
		switch {
		case a.hash < b.hash:
			return -1
		case a.hash > b.hash:
			return 1
		}
		return int(a.host) - int(b.host)
	})
	t.index(places)
}

func (t *ring) index(places []place) {
	n := len(places)
	t.hashes, t.hosts = make([]uint64, n), make([]uint32, n)
	width := bits.Len(uint(n))
	t.shift = 64 - width
	t.starts = make([]uint32, 1<<width)
	from := uint64(0)
	for i, p := range places {
		t.hashes[i], t.hosts[i] = p.hash, p.host
		for ; from <= p.hash>>t.shift; from++ {
			t.starts[from] = uint32(i)
		}
	}
	for ; from < uint64(len(t.starts)); from++ {
		t.starts[from] = uint32(n)
	}
}

func (t *ring) Picker() Picker { return t }

func (t *ring) Places() (all, least, most uint64) { return t.size, t.least, t.most }

// Pick finds the place of a hash. Of a host that was turned down the next place follows, whosever it is.
func (t *ring) Pick(r Request) int {
	n := uint64(len(t.hashes))
	if n == 0 {
		return -1
	}
	i := uint64(t.starts[r.Hash>>t.shift])
	for i < n && t.hashes[i] < r.Hash {
		i++
	}
	if i == n {
		i = 0
	}
	if r.Attempt > 0 {
		i = (i + uint64(r.Attempt)) % n
	}
	return int(t.hosts[i])
}
