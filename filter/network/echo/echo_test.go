package echo

import (
	"io"
	"testing"
	"time"

	echov3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/echo/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/extension"
	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/fiber/fibertest"
	"github.com/outrigger-proxy/outrigger/internal/fieldtest"
)

func TestFields(t *testing.T) { fieldtest.Check(t, "fields.golden", &echov3.Echo{}) }

// open starts the filter, made through the registry, on a pipe whose other end it returns.
func open(t *testing.T, w *fiber.Worker) (client fiber.Conn, conn *filter.Conn, ended *int) {
	t.Helper()
	var r extension.Registry[any, filter.Env]
	extension.Add(&r, New)
	a, err := anypb.New(&echov3.Echo{})
	if err != nil {
		t.Fatal(err)
	}
	f, err := r.Build(a, filter.Env{Process: &filter.Process{}})
	if err != nil {
		t.Fatal(err)
	}
	client, server := fiber.Pipe(w)
	n := 0
	c := &filter.Conn{Conn: server, Worker: w, Ended: func() { n++ }}
	f.(filter.Terminal).Open(c)
	return client, c, &n
}

func TestEcho(t *testing.T) {
	fibertest.Each(t, func(t *testing.T, w *fiber.Worker) {
		client, _, ended := open(t, w)
		b := make([]byte, 10)
		for _, s := range []string{"one", "two"} {
			if _, err := client.Write([]byte(s)); err != nil {
				t.Fatal(err)
			}
			if n, err := client.Read(b); err != nil || string(b[:n]) != s {
				t.Errorf("got %q %v", b[:n], err)
			}
		}
		_ = client.CloseWrite()
		if _, err := client.Read(b); err != io.EOF || *ended != 1 {
			t.Errorf("%v, ended %d times", err, *ended)
		}
		_ = client.Close()
	})
}

func TestDrop(t *testing.T) {
	fibertest.Each(t, func(t *testing.T, w *fiber.Worker) {
		client, c, ended := open(t, w)
		c.Drop()
		if _, err := client.Read(make([]byte, 1)); err != io.EOF || *ended != 1 {
			t.Errorf("%v, ended %d times", err, *ended)
		}
		_ = client.Close()
	})
}

func TestDropWhileItWrites(t *testing.T) {
	fibertest.Each(t, func(t *testing.T, w *fiber.Worker) {
		client, c, ended := open(t, w)
		var sender fiber.Task
		sender.Start(w, func() { _, _ = client.Write(make([]byte, 1<<20)) }) // nobody reads what comes back
		_ = w.Sleep(20 * time.Millisecond)
		c.Drop()
		_ = w.Sleep(20 * time.Millisecond)
		if *ended != 1 {
			t.Errorf("ended %d times", *ended)
		}
		sender.Join(w)
		_ = client.Close()
	})
}
