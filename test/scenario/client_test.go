package scenario

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/cockroachdb/datadriven"
)

// http sends a request; `as=J` leaves it to a goroutine that `join J` or the end of the scenario waits for.
func (s *scenario) http(d *datadriven.TestData) (string, error) {
	c, done, err := s.conn(d)
	if err != nil {
		return "", err
	}
	var job string
	d.MaybeScanArgs(s.t, "as", &job)
	if job == "" {
		defer done()
		return exchange(c, s.fill(d.Input)), nil
	}
	answer, text := make(chan string, 1), s.fill(d.Input)
	s.jobs[job] = answer
	go func() { defer done(); answer <- exchange(c, text) }() // ends with the response, or the deadline of its reads
	return "", nil
}

// exchange sends a request and tells what came back.
func exchange(c net.Conn, text string) string {
	if _, err := io.WriteString(c, wire(strings.TrimSuffix(text, "\n"))); err != nil {
		return strings.Trim(ending(err), "<>")
	}
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	method, _, _ := strings.Cut(text, " ")
	r := bufio.NewReader(c)
	var b strings.Builder
	for {
		res, err := http.ReadResponse(r, &http.Request{Method: method})
		if err != nil {
			return b.String() + strings.Trim(ending(err), "<>")
		}
		var body []byte
		if res.StatusCode != http.StatusSwitchingProtocols {
			body, err = io.ReadAll(res.Body)
		}
		printResponse(&b, res, body, err)
		if res.StatusCode >= 200 || res.StatusCode == http.StatusSwitchingProtocols {
			return b.String()
		}
	}
}

// many sends a request some times and tells status and body of each answer: counted, or the bodies in a row.
func (s *scenario) many(d *datadriven.TestData) (string, error) {
	var n int
	d.ScanArgs(s.t, "n", &n)
	var row []string
	counts := map[string]int{}
	for range n {
		out, err := s.http(d)
		if err != nil {
			return "", err
		}
		head, body, _ := strings.Cut(out, "\n\n")
		status := strings.Fields(head + " ? ?")[1]
		row = append(row, strings.TrimSpace(body))
		counts[strings.TrimSpace(status+" "+strings.TrimSpace(body))]++
	}
	if d.Cmd == "sequence" {
		least := slices.Index(row, slices.Min(row))
		return strings.Join(append(row[least:len(row):len(row)], row[:least]...), " "), nil
	}
	var b strings.Builder
	for _, answer := range slices.Sorted(maps.Keys(counts)) {
		_, _ = fmt.Fprintf(&b, "%d x %s\n", counts[answer], answer)
	}
	return b.String(), nil
}

// unescape reads the input of raw and send.
func unescape(text string) (string, error) {
	return strconv.Unquote(`"` + strings.ReplaceAll(strings.ReplaceAll(text, "\n", ""), `"`, `\"`) + `"`)
}

// send sends bytes, and perhaps ends the connection or its own side of it.
func (s *scenario) send(d *datadriven.TestData) error {
	c, _, err := s.conn(d)
	if err != nil {
		return err
	}
	text, err := unescape(d.Input)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(c, text); err != nil {
		return err
	}
	if d.HasArg("half") {
		return c.(*net.TCPConn).CloseWrite()
	}
	if d.HasArg("reset") {
		_ = c.(*net.TCPConn).SetLinger(0)
		return c.Close()
	}
	return nil
}

// raw sends bytes and reads until the connection ends or is silent: shortly when all is there that should be, else longer.
func (s *scenario) raw(d *datadriven.TestData) (string, error) {
	c, done, err := s.conn(d)
	if err != nil {
		return "", err
	}
	defer done()
	text, err := unescape(d.Input)
	if err != nil {
		return "", err
	}
	if _, err := io.WriteString(c, text); err != nil {
		return "", err
	}
	if d.HasArg("half") {
		_ = c.(*net.TCPConn).CloseWrite()
	}
	var got []byte
	chunk := make([]byte, 64<<10)
	for {
		silence := 2 * time.Second
		if rewriting() {
			silence = 1500 * time.Millisecond
		} else if s.same(lines(string(got))+"<open>", d.Expected) {
			silence = 25 * time.Millisecond
		}
		_ = c.SetReadDeadline(time.Now().Add(silence))
		n, err := c.Read(chunk)
		got = append(got, chunk[:n]...)
		if err != nil {
			how := ending(err)
			if how == "<reset>" && !d.HasArg("how") {
				how = "<closed>" // the kernel resets when bytes were not read, which is a matter of time
			}
			return lines(string(got)) + how, nil
		}
	}
}

func printResponse(b *strings.Builder, res *http.Response, body []byte, err error) {
	_, _ = fmt.Fprintf(b, "%s %s\n", res.Proto, res.Status)
	var names []string
	for name := range res.Header {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		for _, v := range res.Header[name] {
			_, _ = fmt.Fprintf(b, "%s: %s\n", strings.ToLower(name), v)
		}
	}
	for _, e := range res.TransferEncoding {
		_, _ = fmt.Fprintf(b, "transfer-encoding: %s\n", e)
	}
	if res.Close {
		b.WriteString("connection: close\n")
	}
	if len(body) > 0 {
		_, _ = fmt.Fprintf(b, "\n%s\n", body)
	}
	for name, v := range res.Trailer {
		_, _ = fmt.Fprintf(b, "trailer %s: %s\n", strings.ToLower(name), strings.Join(v, ", "))
	}
	if err != nil {
		b.WriteString("cut off: " + strings.Trim(ending(err), "<>") + "\n")
	}
}

func (s *scenario) admin(method, path string) string {
	a := s.proxy.Ask(method, path)
	return fmt.Sprintf("%d\n%s", a.Status, a.Body)
}

func (s *scenario) stats(pattern string) string {
	return s.proxy.Ask("GET", "/stats?filter="+pattern).Body
}
