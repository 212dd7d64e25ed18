package scenario

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"sort"
	"strings"
	"time"

	"github.com/cockroachdb/datadriven"
)

func (s *scenario) http(d *datadriven.TestData) (string, error) {
	c, done, err := s.conn(d)
	if err != nil {
		return "", err
	}
	defer done()
	request := wire(strings.TrimSuffix(d.Input, "\n"))
	if _, err := io.WriteString(c, request); err != nil {
		return "", err
	}
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	method, _, _ := strings.Cut(d.Input, " ")
	r := bufio.NewReader(c)
	var b strings.Builder
	for {
		res, err := http.ReadResponse(r, &http.Request{Method: method})
		if err != nil {
			return b.String() + strings.Trim(ending(err), "<>"), nil
		}
		body, err := io.ReadAll(res.Body)
		printResponse(&b, res, body, err)
		if res.StatusCode >= 200 || res.StatusCode == http.StatusSwitchingProtocols {
			return b.String(), nil
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

func (s *scenario) admin(method, path string) (string, error) {
	q, err := http.NewRequest(method, "http://"+s.proxy.admin()+path, nil)
	if err != nil {
		return "", err
	}
	q.Close = true
	res, err := http.DefaultTransport.RoundTrip(q)
	if err != nil {
		return "", err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	return fmt.Sprintf("%d\n%s", res.StatusCode, body), err
}

func (s *scenario) stats(pattern string) string {
	page, err := s.admin("GET", "/stats?filter="+pattern)
	if err != nil {
		return err.Error()
	}
	_, rest, _ := strings.Cut(page, "\n")
	return rest
}
