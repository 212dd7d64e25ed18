package lb

// EDF is a weighted schedule, earliest deadline first: over time each entry is picked in proportion to its weight, and evenly spread
// (Envoy: EdfScheduler). The zero EDF is empty.
type EDF struct {
	heap  []entry
	now   float64
	order uint64
}

type entry struct {
	deadline float64
	order    uint64 // of two with the same deadline the one that came first
	index    int
}

func (a *entry) before(b *entry) bool {
	return a.deadline < b.deadline || a.deadline == b.deadline && a.order < b.order
}

// Len returns the number of entries.
func (e *EDF) Len() int { return len(e.heap) }

// Add takes an entry in; weight is more than 0.
func (e *EDF) Add(index int, weight float64) {
	e.heap = append(e.heap, entry{e.now + 1/weight, e.order, index})
	e.order++
	for i := len(e.heap) - 1; i > 0; {
		up := (i - 1) / 2
		if !e.heap[i].before(&e.heap[up]) {
			return
		}
		e.heap[i], e.heap[up] = e.heap[up], e.heap[i]
		i = up
	}
}

// Peek returns the entry whose turn it is; the EDF is not empty.
func (e *EDF) Peek() int { return e.heap[0].index }

// Advance puts the entry whose turn it was back, with the weight that it has now.
func (e *EDF) Advance(weight float64) {
	e.now = e.heap[0].deadline
	e.heap[0].deadline, e.heap[0].order = e.now+1/weight, e.order
	e.order++
	n := len(e.heap)
	for i := 0; ; {
		least := i
		for c := 2*i + 1; c <= 2*i+2 && c < n; c++ {
			if e.heap[c].before(&e.heap[least]) {
				least = c
			}
		}
		if least == i {
			return
		}
		e.heap[i], e.heap[least] = e.heap[least], e.heap[i]
		i = least
	}
}
