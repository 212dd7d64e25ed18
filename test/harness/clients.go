package harness

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"testing"
	"time"
)

// Client is one whose every request goes to an address, over a connection of its own.
func Client(address string) *http.Client {
	return &http.Client{Timeout: Patience, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network(address), address)
	}}}
}

// Answer is a response.
type Answer struct {
	Status     int
	Type, Body string
	Close      bool // it is the last of its connection
}

func (a *Answer) String() string { return strconv.Itoa(a.Status) + " " + a.Body }

// read reads the body of a response.
func read(r *http.Response) (Answer, error) {
	b, err := io.ReadAll(r.Body)
	return Answer{r.StatusCode, r.Header.Get("Content-Type"), string(b), r.Close}, err
}

// call makes a request.
func call(c *http.Client, method, url string) (Answer, error) {
	q, err := http.NewRequestWithContext(context.Background(), method, url, http.NoBody)
	if err != nil {
		return Answer{}, err
	}
	r, err := c.Do(q)
	if err != nil {
		return Answer{}, err
	}
	defer func() { _ = r.Body.Close() }()
	return read(r)
}

// Fetch gets a URL and returns status and body.
func Fetch(c *http.Client, url string) (string, error) {
	a, err := call(c, http.MethodGet, url)
	return a.String(), err
}

// Get is Fetch for those who must have an answer.
func Get(tb testing.TB, c *http.Client, url string) string {
	tb.Helper()
	text, err := Fetch(c, url)
	if err != nil {
		tb.Fatal(err)
	}
	return text
}

// Dial opens a connection until the test ends.
func Dial(tb testing.TB, address string) net.Conn {
	tb.Helper()
	c, err := net.Dial(network(address), address)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(Patience))
	return c
}

// Exchange sends a request of HTTP/1.1 for a path over a connection, and returns status and body.
func Exchange(c net.Conn, path string) (string, error) {
	if err := Send(c, path); err != nil {
		return "", err
	}
	a, err := Receive(c)
	return a.String(), err
}

// Send sends a request of HTTP/1.1 for a path over a connection.
func Send(c net.Conn, path string) error {
	_, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nhost: x\r\n\r\n", path)
	return err
}

// Receive reads a response of HTTP/1.1.
func Receive(c net.Conn) (Answer, error) {
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return Answer{}, err
	}
	defer func() { _ = r.Body.Close() }()
	return read(r)
}
