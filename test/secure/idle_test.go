package secure

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-proxy/outrigger/internal/transport/pkitest"
	"github.com/outrigger-proxy/outrigger/test/harness"
)

// clients is how many connections TestIdleMemory rests.
const clients = 1000

// asClients makes this program the clients of TestIdleMemory, so that it is the proxy alone that is measured.
const asClients = "OUTRIGGER_TEST_CLIENTS"

func TestMain(m *testing.M) {
	if path := os.Getenv(asClients); path != "" {
		if err := rest(path); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// rest opens connections, asks over each, sends a body in records of full size, and holds them until its input ends.
func rest(path string) error {
	var all []net.Conn
	for range clients {
		raw, err := net.Dial("unix", path)
		if err != nil {
			return err
		}
		c := tls.Client(raw, &tls.Config{InsecureSkipVerify: true})
		if got, err := harness.Exchange(c, "/"); got != "200 ok" || err != nil {
			return fmt.Errorf("%q %w", got, err)
		}
		if _, err := fmt.Fprintf(c, "POST /up HTTP/1.1\r\nhost: x\r\ncontent-length: 40000\r\n\r\n%s", strings.Repeat("x", 40000)); err != nil {
			return err
		}
		if a, err := harness.Receive(c); a.Body != "up" || err != nil {
			return fmt.Errorf("after a body: %q %w", a.Body, err)
		}
		all = append(all, c)
	}
	fmt.Println("resting")
	_, err := io.Copy(io.Discard, os.Stdin)
	runtime.KeepAlive(all)
	return err
}

// memory is what the process holds after its garbage is gone.
func memory() int {
	var m runtime.MemStats
	for range 3 {
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc + m.StackInuse)
}

// TestIdleMemory holds an idle TLS connection to 20 KiB, the proxy's own and that of crypto/tls.
func TestIdleMemory(t *testing.T) {
	for _, version := range []string{"TLSv1_2", "TLSv1_3"} {
		t.Run(version, func(t *testing.T) { testIdleMemory(t, version) })
	}
}

func testIdleMemory(t *testing.T, version string) {
	each(t, func(s *stage) string {
		s.backend("up", nil)
		identity := "tls_certificates: [" + harness.Identity(t, s.ca.Issue(t, pkitest.Leaf{DNS: []string{"in.test"}})) + "]"
		return "  listeners:\n" + s.listener("in", "common_tls_context: {tls_params: {tls_minimum_protocol_version: "+version+", tls_maximum_protocol_version: "+version+"}, "+identity+"}", "{match: {prefix: /up}, route: {cluster: up}}, "+hello) +
			"  clusters:\n  - {name: up, load_assignment: {cluster_name: up, endpoints: [{lb_endpoints: [" + endpoint(s.path("up"), "") + "]}]}}\n"
	}, func(t *testing.T, s *stage) {
		before := memory()
		c := exec.Command(os.Args[0])
		c.Env = append(os.Environ(), asClients+"="+s.path("in"))
		in, err := c.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(out).ReadString('\n')
		if err != nil || strings.TrimSpace(line) != "resting" {
			t.Fatal(line, err)
		}
		now := func() float64 { return float64(memory()-before) / clients / 1024 }
		t.Logf("%.1f KiB a connection", now())
		bound := 20.0
		if strings.HasSuffix(t.Name(), "goroutine") {
			bound = 30 // a stack for each connection
		}
		for end := time.Now().Add(10 * time.Second); now() > bound; time.Sleep(50 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%.1f KiB a connection", now())
			}
		}
		t.Logf("%.1f KiB after a while", now())
		_ = in.Close()
		if err := c.Wait(); err != nil {
			t.Error(err)
		}
	})
}
