package transport

import (
	"bytes"
	"io"
	"testing"

	"github.com/outrigger-proxy/outrigger/internal/fiber"
)

// TestRoom takes the room of a connection that rests, and of no other; it works on afterwards.
func TestRoom(t *testing.T) {
	if rawInput == nil || input == nil || hand == nil {
		t.Fatal("the fields of tls.Conn are not what they were")
	}
	each(t, func(t *testing.T, w *fiber.Worker, client, server *conn) {
		big, got := bytes.Repeat([]byte("x"), 16<<10), make([]byte, 16<<10)
		for range 2 {
			mustWrite(t, client, string(big))
			if _, err := io.ReadFull(server, got[:100]); err != nil {
				t.Fatal(err)
			}
			server.sweep() // not at rest: half of the record is still to be read
			if _, err := io.ReadFull(server, got[100:]); err != nil || !bytes.Equal(got, big) {
				t.Fatal("the record is lost", err)
			}
			if !server.roomy() {
				t.Error("no room for a record")
			}
			server.OnIdle(0, func(bool) {})
			if !server.tidying {
				t.Error("nobody will come to tidy up")
			}
			server.sweep()
			if server.roomy() || server.tidying {
				t.Error("the room is still there")
			}
			server.OnIdle(0, nil)
		}
	})
}
