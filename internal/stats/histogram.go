package stats

import (
	"math"
	"sync"
	"sync/atomic"
)

// Histogram records how values are distributed, in log-linear bins of two significant digits: 90 bins to the decade, so that a
// value is known to within 10 % at worst. Bins are made a decade at a time when a value first falls into it; the zero Histogram is
// one word, and ready for use.
type Histogram struct{ p atomic.Pointer[bins] }

// decades is how many powers of ten have bins; a value beyond falls into the last bin.
const decades = 12

type bins struct {
	zero   atomic.Uint64
	decade [decades]atomic.Pointer[[90]atomic.Uint64]

	mu       sync.Mutex // guards what the last flush found
	total    Distribution
	interval Distribution
}

// Record takes a value in: milliseconds, bytes, or what the histogram counts.
func (h *Histogram) Record(v uint64) {
	b := load(&h.p)
	if v == 0 {
		b.zero.Add(1)
		return
	}
	decade, mantissa := split(v)
	load(&b.decade[decade])[mantissa-10].Add(1)
}

// split writes v as mantissa (10 to 99) times a power of ten: decade 0 holds 1 to 9.9, decade 1 10 to 99, and so on.
func split(v uint64) (decade, mantissa int) {
	if v < 10 {
		return 0, int(v) * 10
	}
	for decade = 1; v >= 100; decade++ {
		v /= 10
	}
	if decade >= decades {
		return decades - 1, 99
	}
	return decade, int(v)
}

func (h *Histogram) used() bool { return h.p.Load() != nil }

// Total returns what was recorded until the last flush.
func (h *Histogram) Total() Distribution {
	b := h.p.Load()
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.total
}

// Interval returns what was recorded between the last two flushes.
func (h *Histogram) Interval() Distribution {
	b := h.p.Load()
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.interval
}

func (h *Histogram) flush() {
	b := h.p.Load()
	if b == nil {
		return
	}
	now := b.read()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.interval = now.minus(b.total)
	b.total = now
}

func (b *bins) read() Distribution {
	var d Distribution
	if n := b.zero.Load(); n > 0 {
		d = append(d, Bin{Count: n})
	}
	width := 0.1
	for i := range b.decade {
		if counts := b.decade[i].Load(); counts != nil {
			for m := range counts {
				if n := counts[m].Load(); n > 0 {
					d = append(d, Bin{Lower: lower(m+10, i), Width: width, Count: n})
				}
			}
		}
		width = math.Pow10(i)
	}
	return d
}

// lower is the lower bound of a bin; it divides where that is exact and a multiplication would not be.
func lower(mantissa, decade int) float64 {
	if decade == 0 {
		return float64(mantissa) / 10
	}
	return float64(mantissa) * math.Pow10(decade-1)
}

// Bin is a bin that is not empty: Count values from Lower up to Lower+Width.
type Bin struct {
	Lower, Width float64
	Count        uint64
}

// Distribution is a histogram at rest: its bins by value. It is not to be changed.
type Distribution []Bin

// minus returns d without the values of an earlier state.
func (d Distribution) minus(earlier Distribution) Distribution {
	var out Distribution
	i := 0
	for _, b := range d {
		for i < len(earlier) && earlier[i].Lower < b.Lower {
			i++
		}
		if i < len(earlier) && earlier[i].Lower == b.Lower {
			b.Count -= earlier[i].Count
		}
		if b.Count > 0 {
			out = append(out, b)
		}
	}
	return out
}

// Count is how many values there are.
func (d Distribution) Count() (n uint64) {
	for _, b := range d {
		n += b.Count
	}
	return n
}

// Sum approximates the sum of the values by a weighted middle of each bin.
func (d Distribution) Sum() (sum float64) {
	for _, b := range d {
		if b.Lower > 0 {
			sum += float64(b.Count) * (b.Lower + b.Width*b.Lower/(2*b.Lower+b.Width))
		}
	}
	return sum
}

// Below is how many values lie in bins that begin at or below bound: what a Prometheus bucket of that upper bound shows.
func (d Distribution) Below(bound float64) (n uint64) {
	for _, b := range d {
		if b.Lower > bound {
			break
		}
		n += b.Count
	}
	return n
}

// Quantile is the smallest value with at least the fraction q of all values at or below it, where the values of a bin are taken
// to be spread evenly. It is NaN when there are none.
func (d Distribution) Quantile(q float64) float64 {
	total := d.Count()
	if total == 0 {
		return math.NaN()
	}
	rank := max(1, uint64(math.Ceil(q*float64(total))))
	for _, b := range d {
		if rank <= b.Count {
			return b.Lower + b.Width*float64(rank)/float64(b.Count+1)
		}
		rank -= b.Count
	}
	return math.NaN()
}

// Quantiles are the fractions that a listing shows.
func Quantiles() []float64 {
	return []float64{0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 1}
}

// Buckets are the upper bounds that a histogram is shown with where stats_config sets no others.
func Buckets() []float64 {
	return []float64{
		0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 300000, 600000, 1800000, 3600000,
	}
}
