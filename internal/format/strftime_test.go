package format

import (
	"testing"
	"time"
)

// The expectations are what Envoy 1.40 printed for this moment.
func TestTimeFormats(t *testing.T) {
	at := time.Date(2026, 11, 23, 23, 20, 51, 210_067_000, time.UTC)
	for format, want := range map[string]string{
		"%s.%9f": "1795476051.210067000", "%f": "210067000", "%1f": "2", "%6f": "210067", "%3f%3f": "210210", "%f9": "2100670009",
		"%Y": "2026", "%y": "26", "%m": "11", "%d": "23", "%e": "23", "%H": "23", "%I": "11", "%M": "20", "%S": "51", "%p": "PM", "%P": "pm",
		"%j": "327", "%U": "47", "%W": "47", "%V": "48", "%G": "2026", "%g": "26", "%u": "1", "%w": "1",
		"%a %A %b %B %h": "Mon Monday Nov November Nov", "%c": "Mon Nov 23 23:20:51 2026", "%x": "11/23/26", "%X": "23:20:51", "%D": "11/23/26",
		"%F": "2026-11-23", "%T": "23:20:51", "%R": "23:20", "%r": "11:20:51 PM", "%z": "+0000", "%Z": "UTC", "%C": "20", "%%": "%", "%t": "\t",
		"%E4S": "51.2100", "%E3f": "210", "%E*S": "51.210067", "%Ez": "+00:00", "%E4Y": "2026", "%ET": "T", "%:z": "+00:00",
		"%k": "23", "%l": "11", "%Q|%i|%L|%N|%E|%O": "%Q|%i|%L|%N|%E|%O", "%Od|%Ey": "23|26", "%-d|%_d|%0e|%5d": "23|23|23|00023",
		"%": "%", "plain": "plain", "a%Yb%": "a2026b%", "%^a %^B": "MON NOVEMBER",
	} {
		if got := string(appendTime(nil, compileTime(format), at)); got != want {
			t.Errorf("%s gives %q, want %q", format, got, want)
		}
	}
}

func TestPaddingOfSmallNumbers(t *testing.T) {
	at := time.Date(2026, 1, 4, 0, 5, 6, 7, time.UTC) // a Sunday
	for format, want := range map[string]string{
		"%d|%e|%-d|%_d|%0e|%5d|%_5d": "04| 4|4| 4|04|00004|    4", "%H|%k|%I|%l": "00| 0|12|12", "%j %U %W %V %G %u %w": "004 01 00 01 2026 7 0",
		"%f|%3f|%E*f|%E*S|%E0S|%E12S": "000000007|000|000000007|06.000000007|06|06.000000007000",
	} {
		if got := string(appendTime(nil, compileTime(format), at)); got != want {
			t.Errorf("%s gives %q, want %q", format, got, want)
		}
	}
}

func TestISO(t *testing.T) {
	for _, at := range []time.Time{time.Unix(0, 0), time.Date(2026, 12, 31, 23, 59, 59, 999_999_999, time.UTC), time.Date(2000, 2, 29, 1, 2, 3, 4_000_000, time.UTC)} {
		if got, want := string(appendISO(nil, at.UTC())), at.UTC().Format("2006-01-02T15:04:05.000Z"); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
