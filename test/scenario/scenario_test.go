// Package scenario runs a corpus of scenarios: text files that hold a bootstrap, what is sent, and what comes back. Each runs in
// process on both engines, and, with ENVOY_BIN set, against that binary, so that what the corpus says of Envoy is checked and not
// remembered. `go test ./test/scenario -rewrite` writes what came back into the files.
//
// A file is a list of commands, each with its input, a line `----` and its output:
//
//	upstream NAME        scripted answers: raw HTTP, `close`, `hold` or `reset`, parted by `---`; the last one repeats
//	upstream NAME tcp    an upstream that echoes
//	bootstrap            starts the proxy; {{NAME}} is the port of an upstream, {{dir}} a folder for files
//	http [conn=K] [listener=L]   sends a request and prints the response; conn=K uses connection K again
//	raw [conn=K] [listener=L]    sends bytes, with Go's escapes, and prints all bytes up to the end or to silence
//	saw NAME             prints the requests that an upstream saw since the last time
//	stats REGEX          prints statistics
//	log FILE             prints and forgets the lines of a file in {{dir}}
//	admin METHOD PATH    asks the admin interface
//	stop NAME            ends an upstream
//	shutdown             asks the proxy to end, and waits for it
//
// Outputs that may come late (saw, stats, log) are read again until they are as expected. Dates, ids, ports and durations are
// replaced by names.
package scenario

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
)

func TestScenarios(t *testing.T) {
	engines := map[string]starter{"epoll": inProcess("epoll"), "goroutine": inProcess("goroutine")}
	if bin := os.Getenv("ENVOY_BIN"); bin != "" {
		engines = map[string]starter{"envoy": binary(bin)}
	} else if e := os.Getenv("OUTRIGGER_ENGINE"); e != "" {
		engines = map[string]starter{e: inProcess(e)}
	}
	for name, start := range engines {
		t.Run(name, func(t *testing.T) {
			datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
				if name == "envoy" && strings.HasPrefix(filepath.Base(path), "own_") {
					return // what Envoy does not have, or not so
				}
				s := &scenario{t: t, start: start, dir: t.TempDir(), upstreams: map[string]*upstream{}, conns: map[string]net.Conn{}}
				noLeaks(t, name != "envoy", s.close, func() { datadriven.RunTest(t, path, s.run) })
			})
		})
	}
}

// scenario is one file while it runs.
type scenario struct {
	t         *testing.T
	start     starter
	dir       string
	proxy     proxy
	upstreams map[string]*upstream
	conns     map[string]net.Conn
}

// starter runs a proxy with a bootstrap; the error is that of a configuration that was refused.
type starter func(t *testing.T, bootstrap string) (proxy, error)

// proxy is a proxy that runs.
type proxy interface {
	admin() string
	listener(name string) string // the address of a listener
	shutdown() error             // asks it to end and waits
}

func (s *scenario) close() {
	for _, c := range s.conns {
		_ = c.Close()
	}
	if s.proxy != nil {
		if err := s.proxy.shutdown(); err != nil {
			s.t.Error(err)
		}
	}
	for _, u := range s.upstreams {
		u.close()
	}
}

// run executes a command.
func (s *scenario) run(_ *testing.T, d *datadriven.TestData) string {
	out, err := s.command(d)
	if err != nil {
		out = "error: " + err.Error()
	}
	out = s.normalise(out)
	if out != "" && !strings.HasSuffix(out, "\n") {
		out += "\n"
	}
	return out
}

func (s *scenario) command(d *datadriven.TestData) (string, error) {
	switch d.Cmd {
	case "upstream":
		name := d.CmdArgs[0].Key
		u, err := newUpstream(name, d.Input, d.HasArg("tcp"))
		s.upstreams[name] = u
		return "", err
	case "bootstrap":
		return s.bootstrap(d.Input)
	case "http":
		return s.http(d)
	case "raw":
		return s.raw(d)
	case "saw":
		return s.eventually(d, func() string { return s.upstreams[d.CmdArgs[0].Key].saw() }, s.upstreams[d.CmdArgs[0].Key].forget)
	case "stats":
		return s.eventually(d, func() string { return s.stats(d.CmdArgs[0].Key) }, nil)
	case "log":
		path := filepath.Join(s.dir, d.CmdArgs[0].Key)
		return s.eventually(d, func() string { b, _ := os.ReadFile(path); return string(b) }, func() { _ = os.Truncate(path, 0) })
	case "admin":
		return s.admin(d.CmdArgs[0].Key, d.CmdArgs[1].Key)
	case "stop":
		s.upstreams[d.CmdArgs[0].Key].close()
		return "", nil
	case "shutdown":
		p := s.proxy
		s.proxy = nil
		return "", p.shutdown()
	}
	return "", fmt.Errorf("no command %q", d.Cmd)
}

// eventually reads until the output is as expected, and at most two seconds. done runs afterwards.
func (s *scenario) eventually(d *datadriven.TestData, read func() string, done func()) (string, error) {
	var out string
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); <-time.After(10 * time.Millisecond) {
		if out = read(); strings.TrimRight(s.normalise(out), "\n") == strings.TrimRight(d.Expected, "\n") {
			break
		}
	}
	if done != nil {
		done()
	}
	return out, nil
}

func (s *scenario) bootstrap(text string) (string, error) {
	text = strings.ReplaceAll(text, "{{dir}}", s.dir)
	for name, u := range s.upstreams {
		text = strings.ReplaceAll(text, "{{"+name+"}}", strconv.Itoa(u.port))
	}
	p, err := s.start(s.t, text+"\nadmin: {address: {socket_address: {address: 127.0.0.1, port_value: 0}}}\n")
	s.proxy = p
	return "", err
}

// conn returns the connection that the command names, or a new one, and what to do with it afterwards.
func (s *scenario) conn(d *datadriven.TestData) (net.Conn, func(), error) {
	key, name := "", ""
	d.MaybeScanArgs(s.t, "conn", &key)
	d.MaybeScanArgs(s.t, "listener", &name)
	if c := s.conns[key]; c != nil && key != "" {
		return c, func() {}, nil
	}
	c, err := net.Dial("tcp", s.proxy.listener(name))
	if err != nil {
		return nil, nil, err
	}
	if key == "" {
		return c, func() { _ = c.Close() }, nil
	}
	s.conns[key] = c
	return c, func() {}, nil
}

func (s *scenario) raw(d *datadriven.TestData) (string, error) {
	c, done, err := s.conn(d)
	if err != nil {
		return "", err
	}
	defer done()
	bytesToSend, err := strconv.Unquote(`"` + strings.ReplaceAll(strings.ReplaceAll(d.Input, "\n", ""), `"`, `\"`) + `"`)
	if err != nil {
		return "", err
	}
	if _, err := c.Write([]byte(bytesToSend)); err != nil {
		return "", err
	}
	var got bytes.Buffer
	chunk := make([]byte, 4096)
	for {
		_ = c.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		n, err := c.Read(chunk)
		got.Write(chunk[:n])
		if err != nil {
			return lines(got.String()) + ending(err), nil
		}
	}
}

// lines shows text that may hold anything: a quoted line for each line.
func lines(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString(strings.Trim(strconv.Quote(line), `"`) + "\n")
	}
	return b.String()
}

// ending says in a word how a connection was left.
func ending(err error) string {
	switch {
	case os.IsTimeout(err):
		return "<open>"
	case strings.Contains(err.Error(), "reset"):
		return "<reset>"
	default:
		return "<closed>"
	}
}

var (
	uuids = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	dates = regexp.MustCompile(`(?i)(date: )[A-Z][a-z]{2}, .* GMT`)
	times = regexp.MustCompile(`(x-envoy-upstream-service-time: )\d+`)
	local = regexp.MustCompile(`127\.0\.0\.1([:_])\d{4,5}`)
)

// normalise replaces what differs from run to run.
func (s *scenario) normalise(text string) string {
	text = strings.ReplaceAll(text, s.dir, "<dir>")
	for name, u := range s.upstreams {
		text = regexp.MustCompile(`([:_])`+strconv.Itoa(u.port)+`\b`).ReplaceAllString(text, "${1}<"+name+">")
	}
	text = uuids.ReplaceAllString(text, "<uuid>")
	text = dates.ReplaceAllString(text, "${1}<date>")
	text = times.ReplaceAllString(text, "${1}<ms>")
	return local.ReplaceAllString(text, "127.0.0.1${1}<port>")
}
