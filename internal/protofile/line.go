package protofile

import (
	"bytes"
	"encoding/json"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// Line writes m as a line of JSON, as Envoy's event logs are: with the names of the proto, without spaces, with scalars that are not set.
// A message that cannot be written, which needs invalid UTF-8, is an empty line.
func Line(m proto.Message) []byte {
	raw, err := protojson.MarshalOptions{UseProtoNames: true, EmitDefaultValues: true}.Marshal(m)
	var b bytes.Buffer
	if err == nil {
		_ = json.Compact(&b, raw) // what Marshal writes is JSON
	}
	b.WriteByte('\n')
	return b.Bytes()
}
