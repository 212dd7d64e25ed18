package pool

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/outrigger-proxy/outrigger/internal/fiber"
)

// progress asks the kernel (tcp(7), TCP_INFO). What is no TCP socket always makes progress.
func progress(c fiber.Conn) (p Progress) {
	_ = c.Control(func(fd int) error {
		i, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err == nil {
			p = Progress{
				Waiting: i.Unacked > 0, Silent: time.Duration(i.Last_ack_recv) * time.Millisecond, RTT: time.Duration(i.Min_rtt) * time.Microsecond,
				Repeated: int(i.Retransmits),
			}
		}
		return err
	})
	return p
}

// probeOften lets the kernel ask after a host that does not say anything, and end the connection if it gets no answer, within 3 s.
func probeOften(fd int) error {
	for _, o := range [][2]int{{unix.TCP_KEEPIDLE, 1}, {unix.TCP_KEEPINTVL, 1}, {unix.TCP_KEEPCNT, 2}} {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, o[0], o[1]); err != nil {
			return err
		}
	}
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
}
