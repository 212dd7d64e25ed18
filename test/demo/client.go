package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// result is what the client saw.
type result struct {
	Versions  map[string]int  `json:"versions"`  // responses by version
	Instances map[string]int  `json:"instances"` // and by instance
	Failed    map[string]int  `json:"failed"`    // what was no 200, by status or error
	Took      []time.Duration `json:"took"`      // sorted
}

// client sends the requests, eight at a time, and prints the result as JSON; a line `.` tells of each hundred.
func client(args []string) error {
	f := flag.NewFlagSet("client", flag.ExitOnError)
	url, n, at := f.String("url", "", ""), f.Int("n", 0, ""), f.Int("mark", 0, "")
	if err := f.Parse(args); err != nil {
		return err
	}
	r := result{Versions: map[string]int{}, Instances: map[string]int{}, Failed: map[string]int{}}
	var mu sync.Mutex
	var all sync.WaitGroup
	todo := make(chan int)
	for range 8 {
		all.Go(func() { // ends when todo is closed
			for range todo {
				version, instance, failed, took := get(*url)
				mu.Lock()
				r.Took = append(r.Took, took)
				if failed != "" {
					r.Failed[failed]++
				} else {
					r.Versions[version]++
					r.Instances[instance]++
				}
				mu.Unlock()
			}
		})
	}
	for i := range *n {
		if i == *at {
			fmt.Println("mark")
		}
		todo <- i
		time.Sleep(time.Millisecond) // a steady rate, so that the run outlasts the kill
	}
	close(todo)
	all.Wait()
	slices.Sort(r.Took)
	return json.NewEncoder(os.Stdout).Encode(r)
}

func get(url string) (version, instance, failed string, took time.Duration) {
	began := time.Now()
	res, err := http.Get(url)
	if err != nil {
		return "", "", err.Error(), time.Since(began)
	}
	_, err = io.Copy(io.Discard, res.Body)
	_ = res.Body.Close()
	if err != nil || res.StatusCode != http.StatusOK {
		return "", "", fmt.Sprint(res.Status, " ", err), time.Since(began)
	}
	return res.Header.Get("X-Version"), res.Header.Get("X-Instance"), "", time.Since(began)
}

// print shows the result to a person.
func (r *result) print(w io.Writer) {
	total := r.Versions["v1"] + r.Versions["v2"]
	for _, v := range []string{"v1", "v2"} {
		_, _ = fmt.Fprintf(w, "  %s  %4d  %4.1f %%  %s\n", v, r.Versions[v], 100*float64(r.Versions[v])/float64(max(1, total)),
			strings.Repeat("#", 60*r.Versions[v]/max(1, total)))
	}
	var names []string
	for n := range r.Instances {
		names = append(names, n)
	}
	slices.Sort(names)
	_, _ = fmt.Fprint(w, "\n  by instance:")
	for _, n := range names {
		_, _ = fmt.Fprintf(w, "  %s %d", n, r.Instances[n])
	}
	_, _ = fmt.Fprintf(w, "\n  failed: %d\n", requests-total)
	for _, why := range slices.Sorted(maps.Keys(r.Failed)) {
		_, _ = fmt.Fprintf(w, "    %d times %s\n", r.Failed[why], why)
	}
	_, _ = fmt.Fprintf(w, "  latency: median %v, 99 %% %v, longest %v\n", r.quantile(0.5), r.quantile(0.99), r.quantile(1))
}

func (r *result) quantile(q float64) time.Duration {
	if len(r.Took) == 0 {
		return 0
	}
	return r.Took[min(len(r.Took)-1, int(q*float64(len(r.Took))))].Round(10 * time.Microsecond)
}
