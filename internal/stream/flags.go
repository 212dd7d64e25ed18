package stream

import "strings"

// Flags is the set of Envoy's response flags of a stream.
type Flags uint64

// The response flags, in the order in which Envoy 1.40 prints them.
const (
	FailedLocalHealthCheck Flags = 1 << iota
	NoHealthyUpstream
	UpstreamRequestTimeout
	LocalReset
	UpstreamRemoteReset
	UpstreamConnectionFailure
	UpstreamConnectionTermination
	UpstreamOverflow
	NoRouteFound
	DelayInjected
	FaultInjected
	RateLimited
	UnauthorizedExternalService
	RateLimitServiceError
	DownstreamConnectionTermination
	UpstreamRetryLimitExceeded
	StreamIdleTimeout
	InvalidEnvoyRequestHeaders
	DownstreamProtocolError
	UpstreamMaxStreamDurationReached
	ResponseFromCacheFilter
	NoFilterConfigFound
	DurationTimeout
	UpstreamProtocolError
	NoClusterFound
	OverloadManager
	DNSResolutionFailed
	DropOverload
	DownstreamRemoteReset
	UnconditionalDropOverload
)

var flagNames = [...]struct{ short, long string }{
	{"LH", "FailedLocalHealthCheck"},
	{"UH", "NoHealthyUpstream"},
	{"UT", "UpstreamRequestTimeout"},
	{"LR", "LocalReset"},
	{"UR", "UpstreamRemoteReset"},
	{"UF", "UpstreamConnectionFailure"},
	{"UC", "UpstreamConnectionTermination"},
	{"UO", "UpstreamOverflow"},
	{"NR", "NoRouteFound"},
	{"DI", "DelayInjected"},
	{"FI", "FaultInjected"},
	{"RL", "RateLimited"},
	{"UAEX", "UnauthorizedExternalService"},
	{"RLSE", "RateLimitServiceError"},
	{"DC", "DownstreamConnectionTermination"},
	{"URX", "UpstreamRetryLimitExceeded"},
	{"SI", "StreamIdleTimeout"},
	{"IH", "InvalidEnvoyRequestHeaders"},
	{"DPE", "DownstreamProtocolError"},
	{"UMSDR", "UpstreamMaxStreamDurationReached"},
	{"RFCF", "ResponseFromCacheFilter"},
	{"NFCF", "NoFilterConfigFound"},
	{"DT", "DurationTimeout"},
	{"UPE", "UpstreamProtocolError"},
	{"NC", "NoClusterFound"},
	{"OM", "OverloadManagerTerminated"},
	{"DF", "DnsResolutionFailed"},
	{"DO", "DropOverload"},
	{"DR", "DownstreamRemoteReset"},
	{"UDO", "UnconditionalDropOverload"},
}

// String returns the short names joined by commas, "-" for none.
func (f Flags) String() string {
	return f.join(func(i int) string { return flagNames[i].short })
}

// Long returns the long names joined by commas, "-" for none.
func (f Flags) Long() string {
	return f.join(func(i int) string { return flagNames[i].long })
}

// FlagByName finds a flag by its short name.
func FlagByName(short string) (Flags, bool) {
	for i, n := range flagNames {
		if n.short == short {
			return 1 << i, true
		}
	}
	return 0, false
}

// AppendFlags appends the names of the flags in the order in which Envoy sets them: an HTTP stream gives up retrying before it
// has the reason of the last attempt; other flags come in the order of their declaration. name is Flags.String or Flags.Long.
func (i *Info) AppendFlags(b []byte, name func(Flags) string) []byte {
	f := i.Flags
	if i.Protocol != NoProtocol && f&UpstreamRetryLimitExceeded != 0 && f != UpstreamRetryLimitExceeded {
		b = append(append(b, name(UpstreamRetryLimitExceeded)...), ',')
		f &^= UpstreamRetryLimitExceeded
	}
	return append(b, name(f)...)
}

func (f Flags) join(name func(int) string) string {
	if f == 0 {
		return "-"
	}
	if f&(f-1) == 0 { // one flag is the usual case and costs no allocation
		for i := range flagNames {
			if f == 1<<i {
				return name(i)
			}
		}
	}
	var names []string
	for i := range flagNames {
		if f&(1<<i) != 0 {
			names = append(names, name(i))
		}
	}
	return strings.Join(names, ",")
}
