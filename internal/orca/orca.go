// Package orca reads the load reports that hosts send with their responses (Open Request Cost Aggregation; xds.data.orca.v3).
package orca

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	orcav3 "github.com/cncf/xds/go/xds/data/orca/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/outrigger-proxy/outrigger/internal/header"
)

// Report is what a host says of itself. What it does not say is zero.
type Report struct {
	CPU, Memory, Application float64 // utilization: 1 is full, and it may be more
	RPS, EPS                 float64 // requests and errors per second
	// Named are named_metrics, Utilization are utilization, Cost is request_cost.
	Named, Utilization, Cost map[string]float64
}

// The headers that carry reports.
const (
	Header       = "endpoint-load-metrics"     // in the format that its first word says: TEXT, JSON or BIN
	HeaderBinary = "endpoint-load-metrics-bin" // of gRPC: the message in base64
)

// Read finds the report in the head or the trailer of a response. ok is false where there is none.
func Read(h *header.Map) (r Report, ok bool, err error) {
	if v, there := h.Get(HeaderBinary); there {
		r, err = binary(v)
		return r, err == nil, err
	}
	v, there := h.Get(Header)
	if !there {
		return r, false, nil
	}
	format, text, _ := strings.Cut(v, " ")
	switch format {
	case "TEXT":
		err = r.text(text)
	case "JSON":
		p := &orcav3.OrcaLoadReport{}
		if err = (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal([]byte(text), p); err == nil {
			r = Of(p)
		}
	case "BIN":
		r, err = binary(text)
	default:
		err = fmt.Errorf("unsupported ORCA header format: %.5s", format)
	}
	return r, err == nil, err
}

func binary(v string) (Report, error) {
	b, err := base64.StdEncoding.DecodeString(v)
	if err != nil {
		if b, err = base64.RawStdEncoding.DecodeString(v); err != nil { // gRPC leaves the padding out
			return Report{}, err
		}
	}
	p := &orcav3.OrcaLoadReport{}
	if err := proto.Unmarshal(b, p); err != nil {
		return Report{}, err
	}
	return Of(p), nil
}

// Of reads a message.
func Of(p *orcav3.OrcaLoadReport) Report {
	return Report{
		CPU: p.GetCpuUtilization(), Memory: p.GetMemUtilization(), Application: p.GetApplicationUtilization(), RPS: p.GetRpsFractional(), EPS: p.GetEps(),
		Named: p.GetNamedMetrics(), Utilization: p.GetUtilization(), Cost: p.GetRequestCost(),
	}
}

// text reads pairs of a name and a value, such as cpu_utilization=0.3,named_metrics.queue=5.
func (r *Report) text(s string) error {
	seen := map[string]bool{}
	for pair := range strings.SplitSeq(s, ",") {
		if pair = strings.TrimSpace(pair); pair == "" {
			continue
		}
		i := strings.IndexAny(pair, "=:")
		if i < 0 {
			return fmt.Errorf("metric %q has no value", pair)
		}
		name, value := strings.TrimSpace(pair[:i]), strings.TrimSpace(pair[i+1:])
		if seen[name] {
			return fmt.Errorf("contains duplicate metric: %s", name)
		}
		seen[name] = true
		if err := r.set(name, value); err != nil {
			return err
		}
	}
	return nil
}

func (r *Report) set(name, value string) error {
	v, err := strconv.ParseFloat(value, 64)
	if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
		return fmt.Errorf("unable to parse custom backend load metric value(%s): %s", name, value)
	}
	if p := r.field(name); p != nil {
		*p = v
		return nil
	}
	kind, key, found := strings.Cut(name, ".")
	if m := r.group(kind); found && m != nil {
		if key == "" {
			return errors.New("named metric key is empty")
		}
		if *m == nil {
			*m = map[string]float64{}
		}
		(*m)[key] = v
		return nil
	}
	return fmt.Errorf("unsupported metric name: %s", name)
}

func (r *Report) field(name string) *float64 {
	switch name {
	case "cpu_utilization":
		return &r.CPU
	case "mem_utilization":
		return &r.Memory
	case "application_utilization":
		return &r.Application
	case "rps_fractional":
		return &r.RPS
	case "eps":
		return &r.EPS
	}
	return nil
}

func (r *Report) group(kind string) *map[string]float64 {
	switch kind {
	case "named_metrics":
		return &r.Named
	case "utilization":
		return &r.Utilization
	case "request_cost":
		return &r.Cost
	}
	return nil
}

// Max is the largest of some metrics, 0 if none is there. Names are those of the text format; name.* are all of a group.
func (r *Report) Max(names []string) (most float64) {
	for _, n := range names {
		if p := r.field(n); p != nil {
			most = max(most, *p)
			continue
		}
		kind, key, _ := strings.Cut(n, ".")
		m := r.group(kind)
		if m == nil {
			continue
		}
		if key != "*" {
			most = max(most, (*m)[key])
			continue
		}
		for _, v := range *m {
			most = max(most, v)
		}
	}
	return most
}
