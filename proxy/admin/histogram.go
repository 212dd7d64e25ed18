package admin

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/outrigger-proxy/outrigger/internal/stats"
)

// histogramView is one way to show histograms. Each value is shown twice: of the last interval, and of all time.
type histogramView struct {
	text func(st *stats.Stat, bounds []float64) string
	json func(all []stats.Stat, buckets func(string) []float64) string
}

// histogramViews are the views by the name that histogram_buckets gives them.
func histogramViews() map[string]histogramView {
	summary := histogramView{func(st *stats.Stat, _ []float64) string { return " " + summaryText(st) }, summaryJSON}
	return map[string]histogramView{
		"": summary, "summary": summary,
		"cumulative": {bucketsText(cumulative), bucketsJSON(cumulative)},
		"disjoint":   {bucketsText(disjoint), bucketsJSON(disjoint)},
		"detailed":   {detailedText, detailedJSON},
	}
}

func summaryText(st *stats.Stat) string {
	var parts []string
	for _, q := range stats.Quantiles() {
		parts = append(parts, fmt.Sprintf("P%s(%s,%s)", short(q*100), short(quantile(st, st.Histogram.Interval(), q)),
			short(quantile(st, st.Histogram.Total(), q))))
	}
	return strings.Join(parts, " ")
}

func quantile(st *stats.Stat, d stats.Distribution, q float64) float64 {
	return d.Quantile(q) * st.Scale()
}

// short prints f as briefly as it can be told from others; not a number is nan.
func short(f float64) string {
	if math.IsNaN(f) {
		return "nan"
	}
	return strconv.FormatFloat(math.Round(f*1e12)/1e12, 'f', -1, 64)
}

func summaryJSON(all []stats.Stat, _ func(string) []float64) string {
	var rows []string
	for i := range all {
		rows = append(rows, fmt.Sprintf(`{"name":%s,"values":%s}`, strconv.Quote(all[i].Name), quantilesJSON(&all[i])))
	}
	return fmt.Sprintf(`{"histograms":{"supported_quantiles":%s,"computed_quantiles":[%s]}}`, supported(), strings.Join(rows, ","))
}

func supported() string {
	var q []string
	for _, f := range stats.Quantiles() {
		q = append(q, short(f*100))
	}
	return "[" + strings.Join(q, ",") + "]"
}

func quantilesJSON(st *stats.Stat) string {
	var rows []string
	for _, q := range stats.Quantiles() {
		rows = append(rows, fmt.Sprintf(`{"cumulative":%s,"interval":%s}`, jsonNumber(quantile(st, st.Histogram.Total(), q)),
			jsonNumber(quantile(st, st.Histogram.Interval(), q))))
	}
	return "[" + strings.Join(rows, ",") + "]"
}

func jsonNumber(f float64) string {
	if math.IsNaN(f) {
		return "null"
	}
	return short(f)
}

// counts says how many values of d each bucket holds.
type counts func(d stats.Distribution, bounds []float64, scale float64) []uint64

func cumulative(d stats.Distribution, bounds []float64, scale float64) []uint64 {
	out := make([]uint64, len(bounds))
	for i, b := range bounds {
		out[i] = d.Below(b / scale)
	}
	return out
}

func disjoint(d stats.Distribution, bounds []float64, scale float64) []uint64 {
	out := cumulative(d, bounds, scale)
	for i := len(out) - 1; i > 0; i-- {
		out[i] -= out[i-1]
	}
	return out
}

func bucketsText(c counts) func(*stats.Stat, []float64) string {
	return func(st *stats.Stat, bounds []float64) string {
		interval, total := c(st.Histogram.Interval(), bounds, st.Scale()), c(st.Histogram.Total(), bounds, st.Scale())
		var b strings.Builder
		for i, bound := range bounds {
			_, _ = fmt.Fprintf(&b, " B%g(%d,%d)", brief(bound), interval[i], total[i])
		}
		return b.String()
	}
}

// brief keeps six digits, as much as the text of a bound shows.
func brief(f float64) float64 {
	g, _ := strconv.ParseFloat(strconv.FormatFloat(f, 'g', 6, 64), 64)
	return g
}

func bucketsJSON(c counts) func([]stats.Stat, func(string) []float64) string {
	return func(all []stats.Stat, buckets func(string) []float64) string {
		var rows []string
		for i := range all {
			st, bounds := &all[i], buckets(all[i].Name)
			interval, total := c(st.Histogram.Interval(), bounds, st.Scale()), c(st.Histogram.Total(), bounds, st.Scale())
			var cells []string
			for j, bound := range bounds {
				cells = append(cells, fmt.Sprintf(`{"upper_bound":%s,"interval":%d,"cumulative":%d}`, short(bound), interval[j], total[j]))
			}
			rows = append(rows, fmt.Sprintf(`{"name":%s,"buckets":[%s]}`, strconv.Quote(st.Name), strings.Join(cells, ",")))
		}
		return `{"histograms":[` + strings.Join(rows, ",") + `]}`
	}
}

func detailedText(st *stats.Stat, _ []float64) string {
	bins := func(d stats.Distribution) string {
		var parts []string
		for _, b := range d {
			parts = append(parts, fmt.Sprintf("%s,%s:%d", short(b.Lower*st.Scale()), short(b.Width*st.Scale()), b.Count))
		}
		return strings.Join(parts, ", ")
	}
	return fmt.Sprintf("\n  totals=%s\n  intervals=%s\n  summary=%s", bins(st.Histogram.Total()), bins(st.Histogram.Interval()), summaryText(st))
}

func detailedJSON(all []stats.Stat, _ func(string) []float64) string {
	var rows []string
	for i := range all {
		st := &all[i]
		bins := func(d stats.Distribution) string {
			var parts []string
			for _, b := range d {
				parts = append(parts, fmt.Sprintf(`{"lower_bound":%s,"width":%s,"count":%d}`, short(b.Lower*st.Scale()),
					short(b.Width*st.Scale()), b.Count))
			}
			return "[" + strings.Join(parts, ",") + "]"
		}
		rows = append(rows, fmt.Sprintf(`{"name":%s,"totals":%s,"intervals":%s,"percentiles":%s}`, strconv.Quote(st.Name),
			bins(st.Histogram.Total()), bins(st.Histogram.Interval()), quantilesJSON(st)))
	}
	return fmt.Sprintf(`{"histograms":{"supported_percentiles":%s,"details":[%s]}}`, supported(), strings.Join(rows, ","))
}
