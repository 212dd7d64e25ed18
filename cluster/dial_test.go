package cluster

import (
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/outrigger-proxy/outrigger/cluster/pool"
	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/fiber/fibertest"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

func TestDial(t *testing.T) {
	fibertest.Each(t, func(t *testing.T, w *fiber.Worker) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		closed, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		_ = closed.Close()
		open, shut := l.Addr().String(), closed.Addr().String()
		for _, c := range []struct {
			name       string
			address    string
			additional []string
			bind       string
			fails      bool
		}{
			{"one address", open, nil, "", false},
			{"nobody listens", shut, nil, "", true},
			{"the second answers", shut, []string{open}, "", false},
			{"the first answers", open, []string{shut}, "", false},
			{"none answers", shut, []string{shut}, "", true},
			{"from an address", open, nil, "upstream_bind_config: {source_address: {address: 127.0.0.9, port_value: 0}}", false},
		} {
			m, _ := manager(w)
			if err := m.Add(read(t, c.bind+"\nupstream_connection_options: {tcp_keepalive: {keepalive_time: 5}}"), true); err != nil {
				t.Fatal(err)
			}
			to := pool.Target{Address: stream.Address{AddrPort: netip.MustParseAddrPort(c.address)}}
			for _, a := range c.additional {
				to.Additional = append(to.Additional, stream.Address{AddrPort: netip.MustParseAddrPort(a)})
			}
			var i pool.Info
			conn, err := m.Get("c").pools.Dial(w, to, &i)
			if (err != nil) != c.fails {
				t.Errorf("%s: %v", c.name, err)
			}
			if err == nil {
				if i.Remote.String() != open || c.bind != "" && i.Local.Addr().String() != "127.0.0.9" {
					t.Errorf("%s: %v to %v", c.name, i.Local, i.Remote)
				}
				_ = conn.Close()
			}
		}
	})
}

func TestFirstFamily(t *testing.T) {
	address := func(s string) stream.Address { return stream.Address{AddrPort: netip.MustParseAddrPort(s)} }
	to := pool.Target{Address: address("1.1.1.1:1"), Additional: []stream.Address{address("1.1.1.2:1"), address("[::1]:1"), address("[::2]:1")}}
	for _, c := range []struct {
		o    firstFamily
		want string
	}{
		{firstFamily{}, "[1.1.1.1:1 [::1]:1 1.1.1.2:1 [::2]:1]"},
		{firstFamily{true, true, 1}, "[[::1]:1 1.1.1.1:1 [::2]:1 1.1.1.2:1]"},
		{firstFamily{true, false, 2}, "[1.1.1.1:1 1.1.1.2:1 [::1]:1 [::2]:1]"},
	} {
		if got := fmt.Sprint(c.o.order(to)); got != c.want {
			t.Errorf("%v, want %s", got, c.want)
		}
	}
}
