package fieldtest

import (
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/proto"
)

func TestCheck(t *testing.T) {
	Check(t, "testdata/fields.golden", &corev3.HeaderValue{}, &corev3.HttpUri{})
}

func TestProblems(t *testing.T) {
	const good = "HeaderValue.key: honoured\nHeaderValue.value: refused  for a reason\n# free\n\nHeaderValue.raw_value: harmless  says nothing\n"
	for _, c := range []struct {
		name, text string
		problems   string // joined by |
		missing    int
	}{
		{"all decided", good, "", 0},
		{"a line is missing", strings.Replace(good, "HeaderValue.key: honoured\n", "", 1), "HeaderValue.key has no line", 1},
		{"undecided", strings.Replace(good, "honoured", "MISSING", 1), `HeaderValue.key: "MISSING" is not honoured, refused or harmless`, 0},
		{"no reason", strings.Replace(good, "  for a reason", "", 1), "HeaderValue.value: refused needs its reason", 0},
		{"no such field", good + "HeaderValue.zzz: honoured\n", "HeaderValue.zzz is no field of these messages", 0},
		{"twice", good + "HeaderValue.key: honoured\n", "HeaderValue.key has two lines", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			problems, missing := check(c.text, []proto.Message{&corev3.HeaderValue{}})
			if got := strings.Join(problems, "|"); got != c.problems || len(missing) != c.missing {
				t.Errorf("got %q, %v", got, missing)
			}
		})
	}
}

func TestPathsOfNestedMessages(t *testing.T) {
	got := strings.Join(paths([]proto.Message{&corev3.HealthCheck{}}), " ")
	if !strings.Contains(got, "HealthCheck.Payload.text") {
		t.Error(got)
	}
}

func TestAddMissing(t *testing.T) {
	if got := addMissing("a.b: honoured", []string{"a.c"}); got != "a.b: honoured\na.c: MISSING\n" {
		t.Errorf("%q", got)
	}
}
