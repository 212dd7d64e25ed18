package admin

import (
	"bytes"
	"fmt"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/outrigger-proxy/outrigger/internal/stats"
)

// selection is which statistics a request wants to see.
type selection struct {
	filter   *regexp.Regexp
	invert   bool
	usedOnly bool
}

func newSelection(q url.Values) (*selection, error) {
	s := &selection{usedOnly: q.Has("usedonly"), invert: q.Has("invert_filter")}
	if f := q.Get("filter"); f != "" {
		var err error
		if s.filter, err = regexp.Compile(f); err != nil {
			return nil, fmt.Errorf("Invalid re2 regex: %w", err)
		}
	}
	return s, nil
}

// snapshot returns the selected statistics, brought up to date.
func (s *Server) snapshot(sel *selection) []stats.Stat {
	s.Lifecycle.Flush()
	if s.FlushOnAdmin {
		s.Stats.Flush()
	}
	all := s.Stats.Snapshot(func(name string) bool {
		return (s.Keep == nil || s.Keep(name)) && (sel.filter == nil || sel.filter.MatchString(name) != sel.invert)
	})
	if !sel.usedOnly {
		return all
	}
	used := all[:0]
	for _, st := range all {
		if st.Used {
			used = append(used, st)
		}
	}
	return used
}

// group is a part of a listing: those kinds of statistics stand together.
func group(all []stats.Stat, kinds ...stats.Kind) []stats.Stat {
	var out []stats.Stat
	for _, st := range all {
		for _, k := range kinds {
			if st.Kind == k {
				out = append(out, st)
			}
		}
	}
	return out
}

func statsPage(s *Server, w *response, r *http.Request) {
	q := r.URL.Query()
	if q.Get("format") == "prometheus" {
		prometheus(s, w, r)
		return
	}
	sel, err := newSelection(q)
	if err != nil {
		w.failf(http.StatusBadRequest, "%v", err)
		return
	}
	show, ok := histogramViews()[q.Get("histogram_buckets")]
	if !ok {
		w.failf(http.StatusBadRequest, "usage: /stats?histogram_buckets=(cumulative|disjoint|detailed|summary|prometheusnative)")
		return
	}
	kinds, ok := map[string][]stats.Kind{
		"": {stats.KindText, stats.KindCounter, stats.KindGauge, stats.KindHistogram}, "Counters": {stats.KindCounter},
		"Gauges": {stats.KindGauge}, "Histograms": {stats.KindHistogram}, "TextReadouts": {stats.KindText},
	}[strings.TrimPrefix(q.Get("type"), "All")]
	if !ok {
		w.failf(http.StatusBadRequest, "invalid &type= param")
		return
	}
	all := group(s.snapshot(sel), kinds...)
	switch q.Get("format") {
	case "", "text":
		s.statsText(w, all, show)
	case "json":
		w.contentType = typeJSON
		s.statsJSON(w, all, show)
	case "html", "active-html":
		page := &response{}
		s.statsText(page, all, show)
		w.contentType = typeHTML
		w.WriteString("<!DOCTYPE html><html lang='en'><head><title>Outrigger statistics</title></head><body><pre>\n" +
			html.EscapeString(page.String()) + "</pre></body></html>\n")
	default:
		w.failf(http.StatusBadRequest, "usage: /stats?format=(html|active-html|json|prometheus|text)\n")
	}
}

func (s *Server) statsText(w *response, all []stats.Stat, v histogramView) {
	for _, st := range group(all, stats.KindText) {
		_, _ = fmt.Fprintf(w, "%s: \"%s\"\n", st.Name, html.EscapeString(st.Text))
	}
	for _, st := range group(all, stats.KindCounter, stats.KindGauge) {
		_, _ = fmt.Fprintf(w, "%s: %s\n", st.Name, number(&st))
	}
	for _, st := range group(all, stats.KindHistogram) {
		if st.Histogram.Total().Count() == 0 {
			_, _ = fmt.Fprintf(w, "%s: No recorded values\n", st.Name)
			continue
		}
		_, _ = fmt.Fprintf(w, "%s:%s\n", st.Name, v.text(&st, s.Buckets(st.Name)))
	}
}

func (s *Server) statsJSON(w *response, all []stats.Stat, v histogramView) {
	var rows []string
	for _, st := range group(all, stats.KindText) {
		rows = append(rows, fmt.Sprintf(`{"name":%s,"value":%s}`, strconv.Quote(st.Name), strconv.Quote(st.Text)))
	}
	for _, st := range group(all, stats.KindCounter, stats.KindGauge) {
		rows = append(rows, fmt.Sprintf(`{"name":%s,"value":%s}`, strconv.Quote(st.Name), number(&st)))
	}
	if h := group(all, stats.KindHistogram); len(h) > 0 {
		rows = append(rows, v.json(h, s.Buckets))
	}
	w.WriteString(`{"stats":[` + strings.Join(rows, ",") + "]}")
}

func prometheus(s *Server, w *response, r *http.Request) {
	q := r.URL.Query()
	sel, err := newSelection(q)
	if err != nil {
		w.failf(http.StatusBadRequest, "%v", err)
		return
	}
	kinds := []stats.Kind{stats.KindCounter, stats.KindGauge, stats.KindHistogram}
	if q.Has("text_readouts") {
		kinds = append(kinds, stats.KindText)
	}
	var out bytes.Buffer
	if err := stats.Prometheus(&out, group(s.snapshot(sel), kinds...), s.Tags, s.Buckets); err != nil {
		w.failf(http.StatusInternalServerError, "%v", err)
		return
	}
	_, _ = w.Write(out.Bytes())
}

func resetCounters(s *Server, w *response, _ *http.Request) {
	s.Stats.ResetCounters()
	w.WriteString("OK\n")
}

// number prints a counter or a gauge.
func number(st *stats.Stat) string {
	if st.Kind == stats.KindGauge {
		return strconv.FormatUint(uint64(st.Gauge), 10)
	}
	return strconv.FormatUint(st.Counter, 10)
}
