package http2

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// ways runs f for each version that a client speaks, in clear and over TLS, and each that a host does.
func ways(t *testing.T, h http.HandlerFunc, f func(t *testing.T, c *http.Client, url string)) {
	t.Helper()
	each(t, h, func(t *testing.T, s *stage) {
		for _, down := range []string{"h1", "h2c", "h2"} {
			for _, up := range []string{"/1", ""} {
				t.Run(down+" to h"+map[string]string{"/1": "1", "": "2"}[up], func(t *testing.T) { f(t, client(t, down), s.url(down, up)) })
			}
		}
	})
}

// TestBodies sends bodies with trailers both ways, several at a time.
func TestBodies(t *testing.T) {
	echo := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "x-sum")
		b, err := io.ReadAll(r.Body)
		_ = http.NewResponseController(w).Flush() // or the server would declare the length, and HTTP/1 has no trailers then
		_, _ = w.Write(b)
		w.Header().Set("X-Sum", fmt.Sprint(len(b), r.Trailer.Get("X-Count"), err))
	})
	ways(t, echo, func(t *testing.T, c *http.Client, url string) {
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				size := i * i * i * 3000
				body := bytes.Repeat([]byte{byte('a' + i)}, size)
				q, _ := http.NewRequest(http.MethodPost, url+"/", io.NopCloser(bytes.NewReader(body)))
				q.Trailer = http.Header{"X-Count": []string{fmt.Sprint("-", i, "-")}}
				q.ContentLength = -1
				r, err := c.Do(q)
				if err != nil {
					t.Error(err)
					return
				}
				defer func() { _ = r.Body.Close() }()
				got, err := io.ReadAll(r.Body)
				want := fmt.Sprint(size, fmt.Sprint("-", i, "-"), error(nil))
				if sum := r.Trailer.Get("X-Sum"); err != nil || !bytes.Equal(got, body) || sum != want {
					t.Errorf("%d bytes of %d, trailer %q, want %q, %v", len(got), size, sum, want, err)
				}
			})
		}
		all.Wait()
	})
}

// TestContinue lets the host say that it wants the body.
func TestContinue(t *testing.T) {
	host := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		_, _ = fmt.Fprint(w, len(b))
	})
	ways(t, host, func(t *testing.T, c *http.Client, url string) {
		c.Transport.(*http.Transport).ExpectContinueTimeout = 10 * time.Second
		var said atomic.Bool
		trace := &httptrace.ClientTrace{Got100Continue: func() { said.Store(true) }}
		q, _ := http.NewRequestWithContext(httptrace.WithClientTrace(context.Background(), trace), http.MethodPost, url+"/", strings.NewReader("hello"))
		q.Header.Set("Expect", "100-continue")
		r, err := c.Do(q)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = r.Body.Close() }()
		if b, err := io.ReadAll(r.Body); string(b) != "5" || err != nil || !said.Load() {
			t.Errorf("%q %v, 100 Continue: %v", b, err, said.Load())
		}
	})
}

// TestGivenUp lets a host know that its client has gone, and a client that its host has.
func TestGivenUp(t *testing.T) {
	gone := make(chan error, 1)
	host := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/abort") {
			w.Header().Set("Content-Length", "10")
			_, _ = io.WriteString(w, "half")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		gone <- r.Context().Err()
	})
	ways(t, host, func(t *testing.T, c *http.Client, url string) {
		ctx, cancel := context.WithCancel(context.Background())
		q, _ := http.NewRequestWithContext(ctx, http.MethodGet, url+"/wait", http.NoBody)
		r, err := c.Do(q)
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		_ = r.Body.Close()
		if err := <-gone; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if r, err = c.Get(url + "/abort"); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = r.Body.Close() }()
		if b, err := io.ReadAll(r.Body); err == nil {
			t.Errorf("%q is told to be all", b)
		}
	})
}

// TestStalled lets streams that nobody reads hold up no other stream of the same connections.
func TestStalled(t *testing.T) {
	host := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/long") {
			_, _ = io.Copy(w, io.LimitReader(zeros{}, 8<<20))
			return
		}
		_, _ = io.WriteString(w, "short")
	})
	ways(t, host, func(t *testing.T, c *http.Client, url string) {
		for range 4 {
			r, err := c.Get(url + "/long")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = r.Body.Close() }()
		}
		for range 20 {
			r, err := c.Get(url + "/short")
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(r.Body)
			_ = r.Body.Close()
			if string(b) != "short" || err != nil {
				t.Errorf("%q %v", b, err)
			}
		}
	})
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }
