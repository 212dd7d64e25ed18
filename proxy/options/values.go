package options

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"

	"github.com/outrigger-proxy/outrigger/internal/log"
)

func mode(o *Options, v string) error {
	switch v {
	case "serve":
		o.Mode = adminv3.CommandLineOptions_Serve
	case "validate":
		o.Mode = adminv3.CommandLineOptions_Validate
	case "init_only":
		o.Mode = adminv3.CommandLineOptions_InitOnly
	default:
		return fmt.Errorf("unknown mode '%s'", v)
	}
	return nil
}

func drainStrategy(o *Options, v string) error {
	switch v {
	case "gradual":
		o.DrainStrategy = adminv3.CommandLineOptions_Gradual
	case "immediate":
		o.DrainStrategy = adminv3.CommandLineOptions_Immediate
	default:
		return fmt.Errorf("unknown drain-strategy '%s'", v)
	}
	return nil
}

func addressVersion(o *Options, v string) error {
	switch v {
	case "v4":
		o.LocalAddressIpVersion = adminv3.CommandLineOptions_v4
	case "v6":
		o.LocalAddressIpVersion = adminv3.CommandLineOptions_v6
	default:
		return fmt.Errorf("unknown IP address version '%s'", v)
	}
	return nil
}

func logLevel(o *Options, v string) (err error) {
	o.Level, err = log.ParseLevel(v)
	o.LogLevel = log.LevelName(o.Level)
	return err
}

func logFormat(o *Options, v string) error {
	o.LogFormat, o.LogFormatGiven = v, true
	return nil
}

func socketMode(o *Options, v string) error {
	n, err := strconv.ParseUint(v, 8, 32)
	if err != nil || n > 0o777 {
		return fmt.Errorf("invalid socket-mode '%s'", v)
	}
	o.SocketMode = uint32(n)
	return nil
}

func disable(o *Options, v string) error {
	for name := range strings.SplitSeq(v, ",") {
		if name != "" {
			o.DisabledExtensions = append(o.DisabledExtensions, name)
		}
	}
	return nil
}

func addTag(o *Options, v string) error {
	name, value, ok := strings.Cut(v, ":")
	switch {
	case !ok:
		return fmt.Errorf("misformatted stats-tag '%s'", v)
	case strings.ContainsFunc(name, notAlphanumeric) || name == "":
		return fmt.Errorf("misformatted stats-tag '%s' contains invalid char in '%s'", v, name)
	case value == "" || strings.Contains(value, "."):
		return fmt.Errorf("misformatted stats-tag '%s' contains invalid char in '%s'", v, value)
	case slices.ContainsFunc(o.StatsTag, func(t string) bool { return strings.HasPrefix(t, name+":") }):
		return fmt.Errorf("multiple values for the stats-tag '%s'", name)
	}
	o.StatsTag = append(o.StatsTag, v)
	return nil
}

func notAlphanumeric(r rune) bool {
	return r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
}
