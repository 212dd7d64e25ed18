package logfile

import (
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/outrigger-proxy/outrigger/internal/protofile"
)

// Events is an event log: a file with a line of JSON for each event, as Envoy's logs of health checks and outlier detection are.
type Events struct{ file *File }

// NewEvents writes to f.
func NewEvents(f *File) *Events { return &Events{f} }

// Write writes an event as a line.
func (l *Events) Write(e proto.Message) { l.file.Write(-1, protofile.Line(e)) }

// Moment is the time of an event: to the millisecond.
func Moment() *timestamppb.Timestamp { return timestamppb.New(time.Now().Truncate(time.Millisecond)) }
