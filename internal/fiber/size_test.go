package fiber

import (
	"testing"
	"unsafe"
)

// TestSizes: what every connection costs is looked at before it grows.
func TestSizes(t *testing.T) {
	if n := unsafe.Sizeof(fdSocket{}); n > 208 {
		t.Errorf("a socket is %d bytes", n)
	}
}
