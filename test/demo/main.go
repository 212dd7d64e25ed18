// Command demo shows a sidecar at work. In a network namespace of its own an application calls a service by an address that nobody
// has; iptables redirects the call to Outrigger, which splits it 80/20 between two versions, and retries on another instance when one
// is killed. Without root the same runs over the loopback interface, with a plain listener. It leaves nothing behind.
//
// The roles of the processes it starts are arguments of the same binary: `app` is an instance of the service, `client` the
// application that calls it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

const (
	requests = 1000
	killAt   = 400 // requests after which an instance is killed
)

func main() {
	role := ""
	if len(os.Args) > 1 {
		role = os.Args[1]
	}
	var err error
	switch role {
	case "app":
		err = app(os.Args[2:])
	case "client":
		err = client(os.Args[2:])
	default:
		err = demo()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func demo() (err error) {
	binary := flag.String("outrigger", "bin/outrigger", "the proxy")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	defer stop()
	s, err := newStage(ctx, *binary)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.clean(), os.RemoveAll(s.dir)) }()
	fmt.Println(s.what)
	if err := s.start(); err != nil {
		return err
	}
	fmt.Printf("\n%d requests to http://%s, 8 at a time; after %d of them an instance of v1 is killed.\n\n", requests, s.service, killAt)
	r, err := s.traffic()
	if err != nil {
		return err
	}
	r.print(os.Stdout)
	return s.explain(os.Stdout)
}

// explain prints what the proxy says of it all.
func (s *stage) explain(w io.Writer) error {
	_, _ = fmt.Fprintln(w, "\nStatistics (GET /stats on the admin interface):")
	page, err := s.admin("/stats?filter=" + strings.Join([]string{
		`^http\.outbound\.downstream_rq_(total|2xx|5xx)$`, `^cluster\.v[12]\.upstream_rq_(total|retry|retry_success)$`,
		`^cluster\.v1\.upstream_cx_connect_fail$`, `^http\.outbound\.downstream_rq_time$`,
	}, "|"))
	if err != nil {
		return err
	}
	indent(w, page)
	lines, err := s.accessLog()
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintln(w, "\nAccess log: status, flags, attempts, instance, milliseconds; three lines, and three that were retried:")
	var plain, retried []string
	for _, l := range lines {
		if strings.Contains(l, "attempts=1 ") {
			plain = append(plain, l)
		} else {
			retried = append(retried, l)
		}
	}
	indent(w, strings.Join(append(plain[:min(3, len(plain))], retried[:min(3, len(retried))]...), "\n"))
	return nil
}

func indent(w io.Writer, text string) {
	for line := range strings.Lines(strings.TrimRight(text, "\n") + "\n") {
		_, _ = fmt.Fprint(w, "  ", line)
	}
}

// app serves as one instance of the service until it is killed.
func app(args []string) error {
	f := flag.NewFlagSet("app", flag.ExitOnError)
	version, name, address := f.String("version", "", ""), f.String("name", "", ""), f.String("listen", "", "")
	if err := f.Parse(args); err != nil {
		return err
	}
	server := http.Server{Addr: *address, ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Version", *version)
		w.Header().Set("X-Instance", *name)
		_, _ = fmt.Fprintf(w, "hello from %s\n", *version)
	})}
	return server.ListenAndServe()
}
