package orca

import (
	"encoding/base64"
	"strings"
	"testing"

	orcav3 "github.com/cncf/xds/go/xds/data/orca/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/outrigger-proxy/outrigger/internal/header"
)

func TestRead(t *testing.T) {
	b, err := proto.Marshal(&orcav3.OrcaLoadReport{CpuUtilization: .5, RpsFractional: 10, NamedMetrics: map[string]float64{"q": 3}})
	if err != nil {
		t.Fatal(err)
	}
	packed := base64.StdEncoding.EncodeToString(b)
	want := Report{CPU: .5, RPS: 10, Named: map[string]float64{"q": 3}}
	for name, c := range map[string]struct {
		header, value string
		want          Report
		err           string
	}{
		"binary":            {HeaderBinary, packed, want, ""},
		"binary, unpadded":  {HeaderBinary, strings.TrimRight(packed, "="), want, ""},
		"BIN":               {Header, "BIN " + packed, want, ""},
		"JSON":              {Header, `JSON {"cpu_utilization": 0.5, "rps_fractional": 10, "named_metrics": {"q": 3}, "what": 1}`, want, ""},
		"TEXT":              {Header, "TEXT cpu_utilization=0.5, rps_fractional:10,named_metrics.q=3", want, ""},
		"all of TEXT":       {Header, "TEXT mem_utilization=1,application_utilization=2,eps=3,utilization.u=4,request_cost.c=5", Report{Memory: 1, Application: 2, EPS: 3, Utilization: map[string]float64{"u": 4}, Cost: map[string]float64{"c": 5}}, ""},
		"twice":             {Header, "TEXT eps=1,eps=2", Report{}, "contains duplicate metric: eps"},
		"no number":         {Header, "TEXT eps=x", Report{}, "unable to parse custom backend load metric value(eps): x"},
		"infinite":          {Header, "TEXT eps=Inf", Report{}, "unable to parse custom backend load metric value(eps): Inf"},
		"no value":          {Header, "TEXT eps", Report{}, `metric "eps" has no value`},
		"unknown":           {Header, "TEXT speed=1", Report{}, "unsupported metric name: speed"},
		"unknown group":     {Header, "TEXT a.b=1", Report{}, "unsupported metric name: a.b"},
		"no key":            {Header, "TEXT named_metrics.=1", Report{}, "named metric key is empty"},
		"unknown format":    {Header, "BADBAD x", Report{}, "unsupported ORCA header format: BADBA"},
		"binary is no text": {HeaderBinary, "!", Report{}, "illegal base64"},
		"bad JSON":          {Header, "JSON {", Report{}, "proto:"},
	} {
		t.Run(name, func(t *testing.T) {
			var h header.Map
			h.Add(c.header, c.value)
			got, ok, err := Read(&h)
			if c.err != "" {
				if err == nil || ok || !strings.HasPrefix(err.Error(), c.err) {
					t.Errorf("%v, want %s", err, c.err)
				}
				return
			}
			if err != nil || !ok {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d)
			}
		})
	}
	if _, ok, err := Read(&header.Map{}); ok || err != nil {
		t.Error("there is no report")
	}
}

func TestMax(t *testing.T) {
	r := Report{CPU: .3, Named: map[string]float64{"a": .5, "b": .9}, Utilization: map[string]float64{"u": .7}}
	for names, want := range map[string]float64{"": 0, "cpu_utilization": .3, "named_metrics.a": .5, "named_metrics.a cpu_utilization": .5, "named_metrics.*": .9, "utilization.u": .7, "utilization.x": 0, "x.y": 0, "x": 0} {
		if got := r.Max(strings.Fields(names)); got != want {
			t.Errorf("%s: %v, want %v", names, got, want)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add("TEXT eps=1,named_metrics.a=2")
	f.Add("JSON {}")
	f.Add("BIN CQAAAAAAAOA/")
	f.Fuzz(func(t *testing.T, v string) {
		for _, name := range []string{Header, HeaderBinary} {
			var h header.Map
			h.Add(name, v)
			r, ok, err := Read(&h)
			if ok == (err != nil) {
				t.Errorf("%v and %v", ok, err)
			}
			if m := r.Max([]string{"named_metrics.*"}); m < 0 {
				t.Error(m)
			}
		}
	})
}
