package http2

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"runtime/metrics"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/outrigger-proxy/outrigger/internal/fiber/fibertest"
	"github.com/outrigger-proxy/outrigger/test/harness"
)

// most is by how much the memory of the process may grow while it is attacked.
const most = 32 << 20

// The types of frames, and flags.
const (
	frameData, frameHeaders, framePriority, frameReset, frameSettings = 0, 1, 2, 3, 4
	framePing, frameUpdate, frameContinuation                         = 6, 8, 9

	endStream, endHeaders = 1, 4
)

func frame(kind, flags byte, id uint32, p []byte) []byte {
	b := []byte{byte(len(p) >> 16), byte(len(p) >> 8), byte(len(p)), kind, flags}
	return append(binary.BigEndian.AppendUint32(b, id), p...)
}

// head is a header block: GET, http, path, and the authority "a".
func head(path string, more ...byte) []byte {
	b := append([]byte{0x82, 0x86, 0x04, byte(len(path))}, path...)
	return append(append(b, 0x01, 1, 'a'), more...)
}

// field is a literal field that enters no table.
func field(name, value string) []byte {
	b := append([]byte{0, byte(len(name))}, name...)
	n := len(value)
	if n < 127 {
		b = append(b, byte(n))
	} else {
		b = append(b, 127)
		for n -= 127; n >= 128; n >>= 7 {
			b = append(b, byte(n)|128)
		}
		b = append(b, byte(n))
	}
	return append(b, value...)
}

// flood is what a hostile client sends on each of its connections.
type flood struct {
	name   string
	first  []byte                // after the preface
	round  func(n uint32) []byte // again and again
	rounds int                   // at most
	mute   bool                  // it reads nothing
	conns  int                   // at a time
	hold   time.Duration         // how long it stays when it has said all
	stat   string                // what counts it
}

var floods = []flood{
	{
		name: "rapid reset", rounds: 20000, conns: 4, stat: "http.clear.downstream_rq_too_many_premature_resets",
		round: func(n uint32) []byte {
			return append(frame(frameHeaders, endStream|endHeaders, 2*n+1, head("/1")), frame(frameReset, 0, 2*n+1, []byte{0, 0, 0, 8})...)
		},
	},
	{
		name: "CONTINUATION", rounds: 4000, conns: 4, stat: "http.clear.downstream_cx_protocol_error",
		first: frame(frameHeaders, endStream, 1, head("/")),
		round: func(uint32) []byte { return frame(frameContinuation, 0, 1, field("a", strings.Repeat("x", 15000))) },
	},
	{
		name: "empty CONTINUATION", rounds: 100000, conns: 4, stat: "http2.inbound_empty_frames_flood",
		first: frame(frameHeaders, endStream, 1, head("/")),
		round: func(uint32) []byte { return frame(frameContinuation, 0, 1, nil) },
	},
	{
		name: "SETTINGS", rounds: 2000000, conns: 4, mute: true, stat: "http2.outbound_control_flood",
		round: func(uint32) []byte { return frame(frameSettings, 0, 0, nil) },
	},
	{
		name: "long SETTINGS", rounds: 10, conns: 4, stat: "http.clear.downstream_cx_protocol_error",
		round: func(uint32) []byte { return frame(frameSettings, 0, 0, make([]byte, 6*2000)) },
	},
	{
		name: "PING", rounds: 2000000, conns: 4, mute: true, stat: "http2.outbound_control_flood",
		round: func(uint32) []byte { return frame(framePing, 0, 0, make([]byte, 8)) },
	},
	{
		name: "empty DATA", rounds: 100000, conns: 4, stat: "http2.inbound_empty_frames_flood",
		first: frame(frameHeaders, endHeaders, 1, head("/1")),
		round: func(uint32) []byte { return frame(frameData, 0, 1, nil) },
	},
	{
		name: "PRIORITY", rounds: 100000, conns: 4, stat: "http2.inbound_priority_frames_flood",
		round: func(n uint32) []byte { return frame(framePriority, 0, 2*n+1, make([]byte, 5)) },
	},
	{
		name: "WINDOW_UPDATE", rounds: 100000, conns: 4, stat: "http2.inbound_window_update_frames_flood",
		round: func(uint32) []byte { return frame(frameUpdate, 0, 0, []byte{0, 0, 0, 1}) },
	},
	{
		// one entry of the dynamic table, 4000 bytes long, and then as often as it fits into a frame the byte that refers to it
		name: "HPACK bomb", rounds: 200, conns: 4, hold: 300 * time.Millisecond, stat: "http2.header_list_size_too_large",
		first: frame(frameHeaders, endStream|endHeaders, 1, head("/direct", append([]byte{0x40}, field("a", strings.Repeat("x", 3900))[1:]...)...)),
		round: func(n uint32) []byte {
			return frame(frameHeaders, endStream|endHeaders, 2*n+3, head("/direct", []byte(strings.Repeat("\xbe", 16000))...))
		},
	},
	{
		name: "header count", rounds: 200, conns: 4, hold: 300 * time.Millisecond, stat: "http2.header_overflow",
		round: func(n uint32) []byte {
			return frame(frameHeaders, endStream|endHeaders, 2*n+1, head("/direct", []byte(strings.Repeat(string(field("a", "b")), 2000))...))
		},
	},
	{
		name: "header size", rounds: 200, conns: 4, hold: 300 * time.Millisecond, stat: "http2.header_list_size_too_large",
		round: func(n uint32) []byte {
			b := frame(frameHeaders, endStream, 2*n+1, head("/direct"))
			for i := range 8 {
				flags := byte(0)
				if i == 7 {
					flags = endHeaders
				}
				b = append(b, frame(frameContinuation, flags, 2*n+1, field("a", strings.Repeat("x", 16000)))...)
			}
			return b
		},
	},
	{
		// as many long responses as there may be, with windows that are wide open
		name: "slow reader", rounds: 60, conns: 4, mute: true, hold: time.Second, stat: "http.clear.downstream_cx_http2_total",
		first: append(frame(frameSettings, 0, 0, []byte{0, 4, 0x7f, 0xff, 0xff, 0xff}), frame(frameUpdate, 0, 0, []byte{0x7f, 0, 0, 0})...),
		round: func(n uint32) []byte { return frame(frameHeaders, endStream|endHeaders, 2*n+1, head("/1/long")) },
	},
	{
		name: "slow reader of HTTP/2", rounds: 60, conns: 4, mute: true, hold: time.Second, stat: "http.clear.downstream_cx_http2_total",
		first: append(frame(frameSettings, 0, 0, []byte{0, 4, 0x7f, 0xff, 0xff, 0xff}), frame(frameUpdate, 0, 0, []byte{0x7f, 0, 0, 0})...),
		round: func(n uint32) []byte { return frame(frameHeaders, endStream|endHeaders, 2*n+1, head("/long")) },
	},
	{
		name: "closed windows", rounds: 60, conns: 4, hold: time.Second, stat: "http.clear.downstream_cx_http2_total",
		first: frame(frameSettings, 0, 0, []byte{0, 4, 0, 0, 0, 0}),
		round: func(n uint32) []byte { return frame(frameHeaders, endStream|endHeaders, 2*n+1, head("/long")) },
	},
	{
		name: "requests without an end", rounds: 60, conns: 4, hold: time.Second, stat: "http.clear.downstream_cx_http2_total",
		round: func(n uint32) []byte { return frame(frameHeaders, endHeaders, 2*n+1, head("/1")) },
	},
	{
		name: "uploads that nobody reads", rounds: 3000, conns: 1, hold: time.Second, stat: "http.clear.downstream_cx_http2_total",
		round: func(n uint32) []byte {
			b := frame(frameData, 0, 2*(n/30)+1, make([]byte, 8000))
			if n%30 == 0 {
				b = append(frame(frameHeaders, endHeaders, 2*(n/30)+1, head("/sink")), b...)
			}
			return b
		},
	},
}

// TestFloods attacks the proxy in each way that is known, and looks at its memory and at how a client fares that behaves well. Attacker and
// host are processes of their own.
func TestFloods(t *testing.T) {
	host := self("HOST=1")
	out, err := host.StdoutPipe()
	if err == nil {
		err = host.Start()
	}
	var port string
	if err == nil {
		_, err = fmt.Fscanln(out, &port)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = host.Process.Kill(); _ = host.Wait() })
	for name, engine := range fibertest.Engines() {
		t.Run(name, func(t *testing.T) {
			s := start(t, engine, port)
			for i := range floods {
				t.Run(floods[i].name, func(t *testing.T) {
					floods[i].run(t, s)
					floods[i].fair(t, s)
				})
			}
		})
	}
}

// self is this program again, as what env says.
func self(env ...string) *exec.Cmd {
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), env...)
	c.Stderr = os.Stderr
	return c
}

// TestMain is attacker and host, too.
func TestMain(m *testing.M) {
	name := os.Getenv("FLOOD")
	switch {
	case os.Getenv("HOST") != "":
		host()
	case name == "":
		os.Exit(m.Run())
	}
	for i := range floods {
		switch {
		case floods[i].name != name:
		case os.Getenv("PACED") != "":
			floods[i].pace(os.Getenv("TARGET"))
		default:
			floods[i].storm(os.Getenv("TARGET"))
		}
	}
}

// host serves until it is killed, and says where.
func host() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(l.Addr().(*net.TCPAddr).Port)
	piece := make([]byte, 16<<10)
	_ = harness.Server(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/long":
			for range 64 {
				if _, err := w.Write(piece); err != nil {
					return
				}
			}
		case "/sink":
			<-r.Context().Done()
		default:
			_, _ = io.WriteString(w, "well")
		}
	})).Serve(l)
}

func (f *flood) run(t *testing.T, s *stage) {
	c := client(t, "h2c")
	runtime.GC()
	before, counted := memory(), s.Stat(f.stat)
	calm := fares(t, s, c, func() bool { return false }, 300)
	attacker := self("FLOOD="+f.name, "TARGET="+s.clear)
	if err := attacker.Start(); err != nil {
		t.Fatal(err)
	}
	var peak int64
	var over atomic.Bool
	ended := make(chan error)
	go func() { // ends with the attacker
		err := attacker.Wait()
		over.Store(true)
		ended <- err
	}()
	stormy := fares(t, s, c, func() bool { peak = max(peak, grown(before)); return over.Load() }, 1<<30)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	t.Logf("memory +%d KiB; a request takes %v, and %v under attack", peak>>10, calm, stormy)
	if peak > most {
		t.Errorf("memory has grown by %d MiB", peak>>20)
	}
	if s.Stat(f.stat) == counted {
		t.Errorf("%s does not count it", f.stat)
	}
}

// storm opens connections and sends until the proxy has thrown all of them out.
func (f *flood) storm(target string) { f.together(target, 3, math.MaxInt) }

// together attacks over several connections at a time, so many times and with so many bytes over each.
func (f *flood) together(target string, times, bytes int) {
	var all sync.WaitGroup
	for range f.conns {
		all.Go(func() { // ends when the proxy has thrown it out often enough
			for range times {
				f.attack(target, bytes)
			}
		})
	}
	all.Wait()
}

// grown is by how much the memory of the process has grown, without what is garbage already where that would be too much.
func grown(from int64) int64 {
	n := memory() - from
	if n > most {
		runtime.GC()
		n = memory() - from
	}
	return n
}

// memory is what the process has in use.
func memory() int64 {
	m := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"}}
	metrics.Read(m)
	return int64(m[0].Value.Uint64() + m[1].Value.Uint64())
}

// fares makes requests one after the other, n or until it is over, all of which must be answered, and returns how long one takes.
func fares(t *testing.T, s *stage, c *http.Client, over func() bool, n int) time.Duration {
	t.Helper()
	begin, done := time.Now(), 0
	for ; done < n && !over(); done++ {
		path := [...]string{"/direct", "/1", "/"}[done%3]
		want := "200 well"
		if path == "/direct" {
			want = "200 0123456789"
		}
		if got, err := harness.Fetch(c, s.url("h2c", path)); got != want || err != nil {
			t.Errorf("a client that behaves well gets %q, %v for %s", got, err, path)
			break
		}
	}
	return time.Since(begin) / time.Duration(max(done, 1))
}

// attack is one connection, until the proxy ends it or bytes are sent.
func (f *flood) attack(target string, bytes int) {
	d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error { // so that the proxy sees soon that nobody reads
		return c.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4<<10) })
	}}
	c, err := d.Dial("tcp", target)
	if err != nil {
		panic(err)
	}
	defer func() { _ = c.Close() }()
	ended := make(chan struct{})
	if f.mute {
		close(ended)
	} else {
		go func() { // ends with the connection
			_, _ = io.Copy(io.Discard, c)
			close(ended)
		}()
	}
	b := append([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), frame(frameSettings, 0, 0, nil)...)
	b = append(b, f.first...)
	_ = c.SetDeadline(time.Now().Add(3 * time.Second))
	for n := 0; n < f.rounds && bytes > 0; n++ {
		if b = append(b, f.round(uint32(n))...); len(b) < 16<<10 && n < f.rounds-1 {
			continue
		}
		if _, err := c.Write(b); err != nil {
			break
		}
		bytes -= len(b)
		b = b[:0]
	}
	if f.hold > 0 {
		time.Sleep(f.hold / 3)
		return
	}
	<-ended
}
