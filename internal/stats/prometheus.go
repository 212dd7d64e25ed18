package stats

import (
	"io"
	"slices"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"google.golang.org/protobuf/proto"
)

// Prometheus writes stats in Prometheus' text format. Names are Envoy's, with `envoy_` before and the tags taken out as labels;
// buckets gives the upper bounds of a histogram by name. Text readouts become gauges of value 0 with the text as a label.
func Prometheus(w io.Writer, stats []Stat, tags *Tags, buckets func(name string) []float64) error {
	for _, f := range families(stats, tags, buckets) {
		if _, err := expfmt.MetricFamilyToText(w, f); err != nil {
			return err
		}
	}
	return nil
}

// families groups stats by kind and name, in that order.
func families(stats []Stat, tags *Tags, buckets func(name string) []float64) []*dto.MetricFamily {
	type id struct {
		kind Kind
		name string
	}
	byID, raw := map[id]*dto.MetricFamily{}, map[*dto.MetricFamily]string{}
	for i := range stats {
		st := &stats[i]
		name, labels := tags.Split(st.Name)
		k := id{st.Kind, metricName(name)}
		f := byID[k]
		if f == nil {
			f = &dto.MetricFamily{Name: &k.name, Type: metricType(st.Kind).Enum()}
			byID[k], raw[f] = f, name
		}
		f.Metric = append(f.Metric, metric(st, labels, buckets))
	}
	out := make([]*dto.MetricFamily, 0, len(byID))
	for _, f := range byID {
		out = append(out, f)
	}
	slices.SortFunc(out, func(a, b *dto.MetricFamily) int {
		if d := int(a.GetType()) - int(b.GetType()); d != 0 {
			return d
		}
		return strings.Compare(raw[a], raw[b]) // a dot comes before an underscore, as in Envoy
	})
	return out
}

func metricType(k Kind) dto.MetricType {
	switch k {
	case KindCounter:
		return dto.MetricType_COUNTER
	case KindHistogram:
		return dto.MetricType_HISTOGRAM
	default:
		return dto.MetricType_GAUGE
	}
}

func metric(st *Stat, tags []Tag, buckets func(name string) []float64) *dto.Metric {
	m := &dto.Metric{}
	for _, t := range tags {
		m.Label = append(m.Label, &dto.LabelPair{Name: new(sanitizeLabel(t.Name)), Value: new(t.Value)})
	}
	switch st.Kind {
	case KindCounter:
		m.Counter = &dto.Counter{Value: new(float64(st.Counter))}
	case KindGauge:
		m.Gauge = &dto.Gauge{Value: new(float64(uint64(st.Gauge)))}
	case KindText:
		m.Label = append(m.Label, &dto.LabelPair{Name: new("text_value"), Value: new(st.Text)})
		m.Gauge = &dto.Gauge{Value: proto.Float64(0)}
	case KindHistogram:
		m.Histogram = histogram(st, buckets(st.Name))
	}
	return m
}

func histogram(st *Stat, bounds []float64) *dto.Histogram {
	d, scale := st.Histogram.Total(), st.Scale()
	h := &dto.Histogram{SampleCount: new(d.Count()), SampleSum: new(d.Sum() * scale)}
	for _, bound := range bounds {
		h.Bucket = append(h.Bucket, &dto.Bucket{UpperBound: new(bound), CumulativeCount: new(d.Below(bound / scale))})
	}
	return h
}

// Scale is what a recorded value is multiplied with to be shown.
func (st *Stat) Scale() float64 {
	if st.Percent {
		return 1e-6
	}
	return 1
}

// metricName makes a Prometheus name of a statistic's name.
func metricName(name string) string { return "envoy_" + sanitizeLabel(name) }

func sanitizeLabel(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' {
			return r
		}
		return '_'
	}, s)
}
