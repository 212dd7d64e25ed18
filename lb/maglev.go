package lb

import (
	"cmp"
	"math"
	"slices"

	"github.com/cespare/xxhash/v2"
)

// Maglev is consistent hashing by a table (envoy.load_balancing_policies.maglev; listing 1 of the paper of that name): the hosts take
// turns in claiming the next free place of a permutation of their own. It disrupts a little more than a ring, and is more even.
type Maglev struct {
	Size uint64 // of the table: a prime number
}

// maglev holds numbers of hosts, as narrow as they can be.
type maglev[T uint8 | uint16 | uint32] struct {
	hosts       []T
	size        divisor
	least, most uint64
}

// Table fills the table. That of Envoy is the same one.
func (p Maglev) Table(hosts []Share) Table {
	switch n := len(hosts); {
	case n == 0:
		return &maglev[uint8]{}
	case n <= math.MaxUint8+1:
		return newMaglev[uint8](p.Size, hosts)
	case n <= math.MaxUint16+1:
		return newMaglev[uint16](p.Size, hosts)
	}
	return newMaglev[uint32](p.Size, hosts)
}

// claim is a host that takes places: at is the next of its permutation.
type claim struct {
	host         uint32
	at, skip     uint64
	part, target float64
	count        uint64
}

func newMaglev[T uint8 | uint16 | uint32](size uint64, hosts []Share) *maglev[T] {
	t := &maglev[T]{hosts: make([]T, size), size: newDivisor(size)}
	claims := newClaims(size, hosts)
	largest := 0.
	for i := range hosts {
		largest = max(largest, hosts[i].Part)
	}
	taken := make([]uint64, (size+63)/64)
	for left, round := size, 1.; left > 0; round++ {
		for i := range claims {
			c := &claims[i]
			if round*c.part < c.target { // it has less than the largest part, and had its turn
				continue
			}
			c.target += largest
			for taken[c.at>>6]>>(c.at&63)&1 != 0 {
				c.step(size)
			}
			t.hosts[c.at] = T(c.host)
			taken[c.at>>6] |= 1 << (c.at & 63)
			c.step(size)
			c.count++
			if left--; left == 0 {
				break
			}
		}
	}
	t.least = size
	for i := range claims {
		t.least, t.most = min(t.least, claims[i].count), max(t.most, claims[i].count)
	}
	return t
}

// newClaims sorts the hosts by key, so that their order in the list does not matter, and finds their permutations.
func newClaims(size uint64, hosts []Share) []claim {
	claims := make([]claim, len(hosts))
	for i := range hosts {
		claims[i] = claim{host: uint32(i), part: hosts[i].Part}
	}
	slices.SortStableFunc(claims, func(a, b claim) int { return cmp.Compare(hosts[a.host].Key, hosts[b.host].Key) })
	for i := range claims {
		key := hosts[claims[i].host].Key
		claims[i].at = xxhash.Sum64String(key) % size
		claims[i].skip = 1
		if size > 1 {
			claims[i].skip += Seeded(key, 1) % (size - 1)
		}
	}
	return claims
}

func (c *claim) step(size uint64) {
	if c.at += c.skip; c.at >= size {
		c.at -= size
	}
}

// Seeded is XXH64 of s with a seed.
func Seeded(s string, seed uint64) uint64 {
	var d xxhash.Digest
	d.ResetWithSeed(seed)
	_, _ = d.WriteString(s)
	return d.Sum64()
}

func (t *maglev[T]) Picker() Picker { return t }

func (t *maglev[T]) Places() (all, least, most uint64) { return uint64(len(t.hosts)), t.least, t.most }

// Pick looks up the place of a hash. A host that was turned down turns the upper bits of the hash over.
func (t *maglev[T]) Pick(r Request) int {
	if len(t.hosts) == 0 {
		return -1
	}
	return int(t.hosts[t.size.mod(r.Hash^-uint64(r.Attempt))])
}
