package log

import (
	"os"
	"slices"
	"sync"

	"go.uber.org/zap/zapcore"
)

func pid() int { return os.Getpid() }

// core writes entries as lines. Fields follow the message as JSON.
type core struct {
	zapcore.LevelEnabler

	sink   *sink
	fields []zapcore.Field
}

// With returns a core that adds fields to each message.
func (c *core) With(fields []zapcore.Field) zapcore.Core {
	return &core{c.LevelEnabler, c.sink, append(slices.Clip(c.fields), fields...)}
}

// Check takes the entry if the component's level lets it through.
func (c *core) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return ce.AddCore(e, c)
	}
	return ce
}

// Write writes one line.
func (c *core) Write(e zapcore.Entry, fields []zapcore.Field) error {
	p := c.sink.pattern.Load()
	r := record{entry: e, message: e.Message}
	if p.thread {
		r.thread = thread()
	}
	if len(c.fields)+len(fields) > 0 {
		r.message += encoded(slices.Concat(c.fields, fields))
	}
	b := lines().Get().(*[]byte)
	*b = append(p.append((*b)[:0], &r), '\n')
	_, err := c.sink.out.Write(*b)
	lines().Put(b)
	return err
}

// Sync does nothing: lines are not buffered.
func (c *core) Sync() error { return nil }

// lines is the pool of line buffers.
var lines = sync.OnceValue(func() *sync.Pool {
	return &sync.Pool{New: func() any { return new(make([]byte, 0, 256)) }}
})

// encoded writes fields as JSON after a space.
func encoded(fields []zapcore.Field) string {
	enc := zapcore.NewJSONEncoder(zapcore.EncoderConfig{SkipLineEnding: true})
	b, err := enc.EncodeEntry(zapcore.Entry{}, fields)
	if err != nil {
		return " " + err.Error()
	}
	defer b.Free()
	return " " + b.String()
}
