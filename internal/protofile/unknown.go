package protofile

import (
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// fieldNumbers lists the field numbers in unparsed bytes of a message, each once.
func fieldNumbers(raw []byte) []int {
	var numbers []int
	for len(raw) > 0 {
		num, _, n := protowire.ConsumeField(raw)
		if n < 0 {
			break
		}
		if !slices.Contains(numbers, int(num)) {
			numbers = append(numbers, int(num))
		}
		raw = raw[n:]
	}
	return numbers
}
