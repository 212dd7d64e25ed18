package transport

import (
	"io"
	"strings"
	"testing"

	"github.com/outrigger-proxy/outrigger/internal/fiber"
)

// counted is a connection that notes the sizes of what is written at a time.
type counted struct {
	fiber.Conn

	sizes []int
}

func (c *counted) Write(p []byte) (int, error) {
	c.sizes = append(c.sizes, len(p))
	return c.Conn.Write(p)
}

// TestJoinedRecords sends bulk in system calls of 64 KiB, four records each, and takes no other buffers for it than slabs.
func TestJoinedRecords(t *testing.T) {
	each(t, func(t *testing.T, w *fiber.Worker, client, server *conn) {
		const total = 1 << 20
		raw := &counted{Conn: server.wire.raw}
		server.wire.raw = raw
		var reader fiber.Task
		got := int64(0)
		reader.Start(w, func() { got, _ = io.CopyN(io.Discard, client, total) })
		mustWrite(t, server, strings.Repeat("x", total))
		_ = reader.Wait(w)
		if got != total {
			t.Fatalf("%d bytes have come", got)
		}
		if n := len(raw.sizes); n > total/maxWrite+1 {
			t.Errorf("%d writes: %v", n, raw.sizes)
		}
		for _, n := range raw.sizes[:len(raw.sizes)-1] {
			if n <= maxWrite || n > w.Bulk.Size {
				t.Errorf("a write of %d bytes", n)
			}
		}
	})
}
