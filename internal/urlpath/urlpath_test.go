package urlpath

import (
	"bufio"
	"os"
	"strings"
	"testing"
)

// records reads lines of tab-separated fields that were recorded from Envoy 1.40.
func records(t testing.TB, file string) [][]string {
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	var all [][]string
	for s := bufio.NewScanner(f); s.Scan(); {
		all = append(all, strings.Split(s.Text(), "\t"))
	}
	if len(all) == 0 {
		t.Fatalf("%s is empty", file)
	}
	return all
}

// TestLikeEnvoy compares with what four connection managers of Envoy made of each path. Paths that its codec refused say nothing here.
func TestLikeEnvoy(t *testing.T) {
	options := []Options{
		{Normalize: true},
		{Normalize: true, MergeSlashes: true, EscapedSlashes: UnescapeAndForward},
		{MergeSlashes: true},
		{EscapedSlashes: UnescapeAndRedirect},
	}
	for _, r := range records(t, "testdata/envoy.txt") {
		if strings.HasPrefix(r[3], "400") {
			continue
		}
		for i, o := range options {
			got, outcome := o.Apply(r[0])
			said := map[Outcome]string{Forward: "200 " + got, Refuse: "400 ", Redirect: "307 " + got}[outcome]
			if said != r[i+1] {
				t.Errorf("%+v of %q: %q, Envoy: %q", o, r[0], said, r[i+1])
			}
		}
	}
}

func TestHosts(t *testing.T) {
	for _, r := range records(t, "testdata/hosts.txt") {
		for i, got := range []string{StripPort(r[0], 0), StripDot(r[0]), StripPort(r[0], 12704)} {
			if want := strings.TrimPrefix(r[i+1], "200 "); got != want {
				t.Errorf("%d of %q: %q, Envoy: %q", i, r[0], got, want)
			}
		}
	}
}

func TestRejectEscapedSlashes(t *testing.T) {
	for path, want := range map[string]Outcome{"/a": Forward, "/a%2fb": Refuse, "/a%5Cb": Refuse, "/a?%2f": Forward, "/%2": Forward} {
		if _, got := (Options{EscapedSlashes: Reject}).Apply(path); got != want {
			t.Errorf("%q: %d, want %d", path, got, want)
		}
	}
}

func TestNoAllocation(t *testing.T) {
	o := Options{Normalize: true, MergeSlashes: true, EscapedSlashes: Reject}
	if n := testing.AllocsPerRun(100, func() { o.Apply("/reviews/v1/items?id=%2F&x=//") }); n != 0 {
		t.Errorf("%v allocations for a path that is normal", n)
	}
}

func FuzzApply(f *testing.F) {
	for _, s := range []string{"/", "/a/../b", "/%2e%2e/", "//a\\b%5c", "/a?b", "", "/%00"} {
		f.Add(s)
	}
	o := Options{Normalize: true, MergeSlashes: true, EscapedSlashes: UnescapeAndForward}
	f.Fuzz(func(t *testing.T, path string) {
		got, outcome := o.Apply(path)
		if outcome == Refuse || path == "" {
			return
		}
		before, query := split(got)
		if _, was := split(path); was != query {
			t.Errorf("%q: the query became %q", path, query)
		}
		for _, bad := range []string{"/../", "/./", "\\"} {
			if strings.Contains(before, bad) {
				t.Errorf("%q: %q has %q", path, got, bad)
			}
		}
		if !strings.HasPrefix(before, "/") {
			t.Errorf("%q: %q", path, got)
		}
	})
}
