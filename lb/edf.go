package lb

import (
	"cmp"
	"math/bits"
	"slices"
)

// EDF is a weighted schedule, earliest deadline first: over time each entry is picked in proportion to its weight, and evenly spread
// (Envoy: EdfScheduler). Of two entries with the same deadline the one that came first is first. The zero EDF is empty.
//
// It is a calendar queue: time is divided into days, and an entry stands in the list of the day of its deadline. A day is as long as
// one pick takes on average, so the next entry is a step or two away however many there are. The calendar has a day for each entry or
// two; what lies further ahead waits in the list of the same day of a later year.
type EDF struct {
	items []item
	days  []day
	busy  []uint64 // a bit for each day that has entries
	rate  float64  // days per unit of time
	mask  uint64   // of days
	today uint64
	due   int32 // the item whose turn it is
	now   float64
	// How far the calendar has been walked in this many picks, and since when: a calendar whose days have become too short or too
	// long is laid out anew.
	walked, picks int
	since         float64
	weights       float64 // their sum, before the calendar is laid out
	order         []int32 // room to lay it out in
}

// item is an entry. The list of a day consists of runs, in the order of their deadlines; a run are the entries with one deadline, in the
// order in which they came.
type item struct {
	deadline float64
	index    int32
	next     int32 // in its run
	// of the first of a run
	last int32 // of the run
	run  int32 // the first of the next run
}

// day has the first entries of its first run and of its last.
type day struct{ head, tail int32 }

const nobody = -1

// Len returns the number of entries.
func (e *EDF) Len() int { return len(e.items) }

// Add takes an entry in, before the first Peek; weight is more than 0.
func (e *EDF) Add(index int, weight float64) {
	e.items = append(e.items, item{deadline: 1 / weight, index: int32(index)})
	e.weights += weight
}

// Peek returns the entry whose turn it is; the EDF is not empty.
func (e *EDF) Peek() int {
	if e.days == nil {
		e.open()
	}
	e.due = e.first()
	return int(e.items[e.due].index)
}

// Advance puts the entry whose turn it was (Peek) back, with the weight that it has now.
func (e *EDF) Advance(weight float64) {
	i := e.due
	it := &e.items[i]
	e.remove(it, e.today&e.mask)
	e.now = it.deadline
	it.deadline = e.now + 1/weight
	e.insert(i)
	if e.picks++; e.picks >= len(e.items) {
		e.review()
	}
}

// remove takes the first entry of a day out.
func (e *EDF) remove(it *item, at uint64) {
	d := &e.days[at]
	switch {
	case it.next != nobody: // it becomes the first of its run
		next := &e.items[it.next]
		next.last, next.run = it.last, it.run
		if d.tail == d.head {
			d.tail = it.next
		}
		d.head = it.next
	case it.run != nobody:
		d.head = it.run
	default:
		e.busy[at>>6] &^= 1 << (at & 63)
	}
}

// date is the day of a deadline.
func (e *EDF) date(deadline float64) uint64 {
	const doomsday = 1 << 62
	if d := deadline * e.rate; d < doomsday {
		return uint64(int64(d))
	}
	return doomsday
}

// first finds the earliest entry, and makes its day today.
func (e *EDF) first() int32 {
	for end := e.today + uint64(len(e.days)); e.today < end; {
		at := e.today & e.mask
		if h := e.days[at].head; e.busy[at>>6]>>(at&63)&1 != 0 && e.date(e.items[h].deadline) <= e.today {
			return h
		}
		e.today += e.stride(at)
		e.walked++
	}
	return e.leap()
}

// stride is how far it is from a day to the next that has entries, or to the end of its word of the bitmap.
func (e *EDF) stride(at uint64) uint64 {
	if rest := e.busy[at>>6] >> (at & 63) >> 1; rest != 0 {
		return uint64(bits.TrailingZeros64(rest)) + 1
	}
	return min(64-at&63, uint64(len(e.days))-at)
}

// leap goes to the day of the earliest entry, when nothing is due within a year.
func (e *EDF) leap() int32 {
	best := int32(nobody)
	for at := range e.days {
		if e.busy[at>>6]>>(at&63)&1 == 0 {
			continue
		}
		if h := e.days[at].head; best == nobody || e.items[h].deadline < e.items[best].deadline {
			best = h
		}
	}
	e.walked += len(e.days)
	e.today = e.date(e.items[best].deadline)
	return best
}

// insert puts an item into the list of its day.
func (e *EDF) insert(i int32) {
	it := &e.items[i]
	it.next, it.last, it.run = nobody, i, nobody
	at := e.date(it.deadline) & e.mask
	d := &e.days[at]
	if bit := uint64(1) << (at & 63); e.busy[at>>6]&bit == 0 {
		e.busy[at>>6] |= bit
		d.head, d.tail = i, i
		return
	}
	before := d.tail
	if it.deadline < e.items[before].deadline {
		if it.deadline < e.items[d.head].deadline {
			it.run, d.head = d.head, i
			return
		}
		for before = d.head; e.items[e.items[before].run].deadline <= it.deadline; before = e.items[before].run {
			e.walked++
		}
	}
	run := &e.items[before]
	if run.deadline == it.deadline {
		e.items[run.last].next = i
		run.last = i
		return
	}
	it.run, run.run = run.run, i
	if d.tail == before {
		d.tail = i
	}
}

// open makes the calendar.
func (e *EDF) open() {
	n := 1 << bits.Len(uint(len(e.items)))
	e.days, e.busy, e.mask = make([]day, n), make([]uint64, (n+63)/64), uint64(n-1)
	e.order = make([]int32, len(e.items))
	for i := range e.order {
		e.order[i] = int32(i)
	}
	e.lay(e.weights)
}

// review looks whether the days have about the right length, and lays the calendar out anew if not.
func (e *EDF) review() {
	if took := e.now - e.since; took > 0 && e.walked > 8*e.picks {
		n := 0
		for at := range e.days {
			if e.busy[at>>6]>>(at&63)&1 == 0 {
				continue
			}
			for run := e.days[at].head; run != nobody; run = e.items[run].run {
				for i := run; i != nobody; i = e.items[i].next {
					e.order[n] = i
					n++
				}
			}
		}
		e.lay(float64(e.picks) / took)
	}
	e.walked, e.picks, e.since = 0, 0, e.now
}

// lay writes the entries, which stand in order as they came, into the calendar, with this many days to a unit of time.
func (e *EDF) lay(rate float64) {
	e.rate = rate
	e.today = e.date(e.now)
	clear(e.busy)
	slices.SortStableFunc(e.order, func(a, b int32) int { return cmp.Compare(e.items[a].deadline, e.items[b].deadline) })
	for _, i := range e.order {
		e.insert(i)
	}
}
