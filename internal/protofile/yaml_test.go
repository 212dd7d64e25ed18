package protofile

import (
	"fmt"
	"strings"
	"testing"
)

func TestRepeatedKeysOfBigMappings(t *testing.T) {
	var text strings.Builder
	for i := range 40 {
		fmt.Fprintf(&text, "key%d: %d\n", i%20, i)
	}
	n, err := parseYAML([]byte(text.String()))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		key, value := fmt.Sprint("key", i), fmt.Sprint(20+i)
		if n.keys[i] != key || n.get(key).text != value {
			t.Errorf("%s of %v is %v, want %s", key, n.keys, n.get(key), value)
		}
	}
	if len(n.keys) != 20 || len(n.items) != 20 {
		t.Errorf("%d keys of %d values, want 20", len(n.keys), len(n.items))
	}
}
