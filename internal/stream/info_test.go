package stream

import (
	"testing"

	dataaccesslogv3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
)

func TestLogTypesAreThoseOfTheProto(t *testing.T) {
	for n, name := range dataaccesslogv3.AccessLogType_name {
		if got := LogType(n).String(); got != name {
			t.Errorf("%d is %s, want %s", n, got, name)
		}
	}
	if len(logTypeNames) != len(dataaccesslogv3.AccessLogType_name) {
		t.Error("the proto has other types")
	}
}
