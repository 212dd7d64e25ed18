package proxy

import (
	"runtime/debug"
	"strconv"
)

// revision is the version control revision that the binary was built from, empty if the build did not record it.
func revision() string {
	b, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range b.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return ""
}

// buildNumber is what server.version shows: the first six digits of the revision as a number.
func buildNumber() int64 {
	r := revision()
	n, err := strconv.ParseInt(r[:min(6, len(r))], 16, 64)
	if err != nil {
		return 0
	}
	return n
}

// Version is the version string of this build.
func (l *lifecycle) Version() string { return Version }
