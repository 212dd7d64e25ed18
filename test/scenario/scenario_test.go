// Package scenario runs a corpus of scenarios: text files that hold a bootstrap, what is sent, and what comes back. Each runs in
// process on both engines, and, with ENVOY_BIN set, against that binary, so that what the corpus says of Envoy is checked and not
// remembered. `go test ./test/scenario -rewrite` writes what came back into the files.
//
// A file is a list of commands, each with its input, a line `----` and its output. To run a proxy:
//
//	upstream NAME        scripted answers, parted by `---`; the last one repeats; none: 200 and its name (see script_test.go)
//	upstream NAME tcp    the same without HTTP; none: it echoes
//	    everywhere       at every address of the host, with one port
//	names NAME           a DNS server with records, lines of a name and addresses, `fails` or `silent`; again: other records
//	bootstrap            starts the proxy; {{NAME}} is the port of an upstream or a DNS server (in requests, too), {{dir}} a folder for files
//	proxy                the same, of a bootstrap from its parts (see parts_test.go)
//	check                says whether the proxy would start with these parts: `accepted` or `refused`
//	refusal              the same, with our words, for own_ files
//	release NAME         lets a script of an upstream go on that stands at `wait`
//	stop NAME            ends an upstream
//	shutdown             asks the proxy to end, and waits for it
//
// To call it; conn=K makes or uses connection K, listener=L takes another listener than the first one:
//
//	http [conn=K] [as=J]  sends a request and prints the response; as=J does not wait
//	join J               waits for a request that was sent before, and prints its response
//	many n=N [conn=K]    sends a request N times, one after the other, and counts the answers
//	sequence n=N         the same, and prints the bodies in order, turned so that the least comes first
//	raw [conn=K]         sends bytes, with Go's escapes, and prints all bytes up to the end or to silence
//	    how              tells a reset from a close
//	send conn=K          sends bytes and reads nothing
//	    half, reset      ends its side, or the connection, after sending; half is for raw, too
//
// To look at it:
//
//	saw NAME             prints what an upstream saw since the last time
//	stats REGEX          prints statistics
//	log FILE             prints and forgets the lines of a file in {{dir}}
//	admin METHOD PATH    asks the admin interface
//	    lines=REGEX      of the answer, sorted by what stands before ::
//
// Outputs that may come late (saw, stats, log) are read again until they are as expected. Dates, ids, ports and durations are
// replaced by names.
package scenario

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/outrigger-proxy/outrigger/test/harness"
)

func TestScenarios(t *testing.T) {
	engines := map[string]starter{"epoll": inside("epoll"), "goroutine": inside("goroutine")}
	if bin := os.Getenv("ENVOY_BIN"); bin != "" {
		engines = map[string]starter{"envoy": binary(bin)}
	} else if e := os.Getenv("OUTRIGGER_ENGINE"); e != "" {
		engines = map[string]starter{e: inside(e)}
	}
	for name, start := range engines {
		t.Run(name, func(t *testing.T) {
			datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
				if name == "envoy" && strings.HasPrefix(filepath.Base(path), "own_") {
					return // what Envoy does not have, or not so
				}
				s := &scenario{
					t: t, starter: start, dir: t.TempDir(), upstreams: map[string]*upstream{}, names: map[string]*names{}, conns: map[string]net.Conn{},
					jobs: map[string]chan string{},
				}
				harness.NoLeaks(t, func() {
					datadriven.RunTest(t, path, s.run)
					s.close()
				})
			})
		})
	}
}

// scenario is one file while it runs.
type scenario struct {
	t         *testing.T
	starter   starter
	dir       string
	proxy     proxy
	upstreams map[string]*upstream
	names     map[string]*names
	conns     map[string]net.Conn
	jobs      map[string]chan string // of `http as=`; each gets one answer
}

func (s *scenario) close() {
	for _, c := range s.conns {
		_ = c.Close()
	}
	for _, job := range s.jobs {
		<-job
	}
	if s.proxy != nil {
		if err := s.proxy.Terminate(); err != nil {
			s.t.Error(err)
		}
	}
	for _, u := range s.upstreams {
		u.close()
		u.release()
	}
	for _, n := range s.names {
		n.close()
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
	case "names":
		return "", s.dns(d.CmdArgs[0].Key, d.Input)
	case "upstream", "release", "stop", "saw":
		return s.upstream(d, d.CmdArgs[0].Key)
	case "bootstrap", "proxy", "check", "refusal", "shutdown":
		return s.process(d)
	case "http":
		return s.http(d)
	case "join":
		out := <-s.jobs[d.CmdArgs[0].Key]
		delete(s.jobs, d.CmdArgs[0].Key)
		return out, nil
	case "many", "sequence":
		return s.many(d)
	case "raw":
		return s.raw(d)
	case "send":
		return "", s.send(d)
	case "stats":
		return s.eventually(d, func() string { return s.stats(d.CmdArgs[0].Key) }, nil)
	case "log":
		path := filepath.Join(s.dir, d.CmdArgs[0].Key)
		return s.eventually(d, func() string { b, _ := os.ReadFile(path); return string(b) }, func() { _ = os.Truncate(path, 0) })
	case "admin":
		return chosen(d, s.admin(d.CmdArgs[0].Key, d.CmdArgs[1].Key)), nil
	}
	return "", fmt.Errorf("no command %q", d.Cmd)
}

// chosen leaves the lines that the argument lines says.
func chosen(d *datadriven.TestData, text string) string {
	if !d.HasArg("lines") {
		return text
	}
	var pattern string
	for _, a := range d.CmdArgs {
		if a.Key == "lines" {
			pattern = strings.Join(a.Vals, ",")
		}
	}
	re := regexp.MustCompile(pattern)
	var l []string
	for line := range strings.Lines(text) {
		if re.MatchString(line) {
			l = append(l, line)
		}
	}
	slices.SortStableFunc(l, func(a, b string) int { // of clusters, whose order is that of a hash in Envoy
		a, _, _ = strings.Cut(a, "::")
		b, _, _ = strings.Cut(b, "::")
		return strings.Compare(a, b)
	})
	return strings.Join(l, "")
}

// dns makes a DNS server, or gives it other records.
func (s *scenario) dns(name, records string) (err error) {
	if n := s.names[name]; n != nil {
		n.set(records)
		return nil
	}
	s.names[name], err = newNames(records)
	return err
}

// upstream does what concerns one upstream.
func (s *scenario) upstream(d *datadriven.TestData, name string) (string, error) {
	u := s.upstreams[name]
	if n := s.names[name]; n != nil {
		return s.eventually(d, n.saw, n.forget)
	}
	switch d.Cmd {
	case "upstream":
		host := "127.0.0.1"
		if d.HasArg("everywhere") {
			host = "0.0.0.0"
		}
		s.upstreams[name] = newUpstream(s.t, name, d.Input, host, d.HasArg("tcp"))
	case "release":
		select {
		case u.gate <- struct{}{}:
		case <-time.After(2 * time.Second):
			return "", errors.New("no script waits")
		}
	case "stop":
		u.close()
	case "saw":
		return s.eventually(d, u.saw, u.forget)
	}
	return "", nil
}

// process starts and ends the proxy.
func (s *scenario) process(d *datadriven.TestData) (string, error) {
	switch d.Cmd {
	case "bootstrap":
		return "", s.bootstrap(d.Input)
	case "proxy":
		text, err := s.parts(d.Input)
		if err != nil {
			return "", err
		}
		return "", s.bootstrap(text)
	case "shutdown":
		p := s.proxy
		s.proxy = nil
		return "", p.Terminate()
	}
	text, err := s.parts(d.Input)
	if err != nil {
		return "", err
	}
	err = s.starter.check(s.t, s.place(text))
	switch {
	case err == nil:
		return "accepted", nil
	case d.Cmd == "check":
		return "refused", nil
	}
	return err.Error(), nil
}

// rewriting says whether outputs are recorded, so that there is nothing to wait for.
func rewriting() bool { return flag.Lookup("rewrite").Value.String() == "true" }

// eventually reads until the output is as expected, and at most two seconds. done runs afterwards.
func (s *scenario) eventually(d *datadriven.TestData, read func() string, done func()) (string, error) {
	patience := 2 * time.Second
	if rewriting() {
		patience = 400 * time.Millisecond
	}
	var out string
	for end := time.Now().Add(patience); time.Now().Before(end); <-time.After(10 * time.Millisecond) {
		if out = read(); s.same(out, d.Expected) && !rewriting() {
			break
		}
	}
	if done != nil {
		done()
	}
	return out, nil
}

func (s *scenario) same(out, expected string) bool {
	return strings.TrimRight(s.normalise(out), "\n") == strings.TrimRight(expected, "\n")
}

// fill fills in ports.
func (s *scenario) fill(text string) string {
	for name, u := range s.upstreams {
		text = strings.ReplaceAll(text, "{{"+name+"}}", u.port)
	}
	for name, n := range s.names {
		text = strings.ReplaceAll(text, "{{"+name+"}}", strconv.Itoa(n.port))
	}
	return text
}

// place fills in ports and paths.
func (s *scenario) place(text string) string {
	text = strings.ReplaceAll(s.fill(text), "{{dir}}", s.dir)
	if strings.HasPrefix(text, "admin:") { // the scenario is about it; keys are sorted
		return text
	}
	return text + "\n" + harness.Admin
}

func (s *scenario) bootstrap(text string) error {
	p, err := s.starter.start(s.t, s.place(text))
	if err == nil {
		s.proxy = p
	}
	return err
}

// conn returns the connection that the command names, or a new one, and what to do with it afterwards.
func (s *scenario) conn(d *datadriven.TestData) (net.Conn, func(), error) {
	key, name := "", ""
	d.MaybeScanArgs(s.t, "conn", &key)
	d.MaybeScanArgs(s.t, "listener", &name)
	if c := s.conns[key]; c != nil && key != "" {
		return c, func() {}, nil
	}
	c, err := net.Dial("tcp", s.proxy.Address(name))
	if err != nil {
		return nil, nil, err
	}
	if key == "" {
		return c, func() { _ = c.Close() }, nil
	}
	s.conns[key] = c
	return c, func() {}, nil
}

// lines shows text that may hold anything: a quoted line for each line.
func lines(text string) string {
	var b strings.Builder
	text = long.ReplaceAllStringFunc(text, func(run string) string { return fmt.Sprintf("<%d x>", len(run)) })
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
	times = regexp.MustCompile(`(?i)(x-envoy-upstream-service-time: )\d+`)
	ports = regexp.MustCompile(`(x-forwarded-port: )\d{4,5}`)
	long  = regexp.MustCompile(`x{99,}`)
	local = regexp.MustCompile(`127\.0\.0\.1([:_])\d{4,5}`)
)

// normalise replaces what differs from run to run.
func (s *scenario) normalise(text string) string {
	text = strings.ReplaceAll(text, s.dir, "<dir>")
	for name, u := range s.upstreams {
		text = regexp.MustCompile(`([:_])`+u.port+`\b`).ReplaceAllString(text, "${1}<"+name+">")
	}
	if here := outward(); here != "" {
		text = strings.ReplaceAll(text, here, "<here>")
	}
	text = uuids.ReplaceAllString(text, "<uuid>")
	text = dates.ReplaceAllString(text, "${1}<date>")
	text = times.ReplaceAllString(text, "${1}<ms>")
	text = ports.ReplaceAllString(text, "${1}<port>")
	return local.ReplaceAllString(text, "127.0.0.1${1}<port>")
}

// outward is the first address of this machine that is not loopback: proxies call themselves so.
func outward() string {
	list, _ := net.InterfaceAddrs()
	for _, a := range list {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && !n.IP.IsLoopback() {
			return n.IP.String()
		}
	}
	return ""
}
