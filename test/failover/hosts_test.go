package failover

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// host is a process that answers requests.
type host struct {
	at  string // address
	cmd *exec.Cmd
}

// serve is such a process: it answers until it is killed. SIGUSR1 makes it break off its answers.
func serve(at string) {
	var broken atomic.Bool
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGUSR1)
	go func() { // ends with the process
		for range c {
			broken.Store(true)
		}
	}()
	l, err := net.Listen("tcp", at)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("ready")
	err = (&http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if d, err := time.ParseDuration(q.Header.Get("X-Pause")); err == nil {
			<-time.After(d)
		}
		if broken.Load() {
			w.Header().Set("Content-Length", "100")
			io.WriteString(w, "half")
			if nc, _, err := http.NewResponseController(w).Hijack(); err == nil {
				nc.(*net.TCPConn).SetLinger(0)
				nc.Close()
			}
			return
		}
		io.WriteString(w, at)
	})}).Serve(l)
	fmt.Println(err)
}

func (h *host) start(t *testing.T) {
	t.Helper()
	h.cmd = exec.Command(os.Args[0])
	h.cmd.Env = append(os.Environ(), "FAILOVER_HOST="+h.at)
	h.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := h.cmd.StdoutPipe()
	if err == nil {
		err = h.cmd.Start()
	}
	if err != nil {
		t.Error(err)
		return
	}
	b := make([]byte, 6)
	if _, err := io.ReadFull(out, b); err != nil || string(b) != "ready\n" {
		t.Errorf("host %s: %q %v", h.at, b, err)
	}
}

func (h *host) kill() {
	_ = h.cmd.Process.Kill()
	_ = h.cmd.Wait()
}

func (h *host) stop()     { _ = h.cmd.Process.Signal(syscall.SIGSTOP) }
func (h *host) breakOff() { _ = h.cmd.Process.Signal(syscall.SIGUSR1) }
