package stream_test

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/fiber/fibertest"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// script is a body that hands out its pieces; "" says that it would wait, and an error ends it.
type script struct {
	pieces []string
	err    error
	waits  int
}

func (s *script) Next(wait bool) ([]byte, error) {
	for len(s.pieces) > 0 {
		p := s.pieces[0]
		if p == "" && !wait {
			return nil, nil
		}
		if s.pieces = s.pieces[1:]; p != "" {
			return []byte(p), nil
		}
		s.waits++
	}
	if s.err != nil {
		return nil, s.err
	}
	return nil, io.EOF
}

func read(b stream.Body) (string, error) {
	all, _, err := stream.Collect(nil, b, 1<<20)
	return string(all), err
}

func TestBytes(t *testing.T) {
	b := stream.Bytes{B: []byte("abc")}
	for range 2 {
		if got, err := read(&b); got != "abc" || err != nil {
			t.Errorf("%q %v", got, err)
		}
		b.Rewind()
	}
	if _, err := (&stream.Bytes{}).Next(true); err != io.EOF {
		t.Error(err)
	}
}

func TestJoined(t *testing.T) {
	for _, c := range []struct {
		first string
		rest  stream.Body
		want  string
	}{{"ab", &script{pieces: []string{"c", "", "d"}}, "abcd"}, {"", &script{pieces: []string{"c"}}, "c"}, {"ab", nil, "ab"}, {"", nil, ""}} {
		if got, err := read(&stream.Joined{First: []byte(c.first), Rest: c.rest}); got != c.want || err != nil {
			t.Errorf("%q %v, not %q", got, err, c.want)
		}
	}
}

func TestTap(t *testing.T) {
	seen, ends := "", 0
	b := stream.Tap{Body: &script{pieces: []string{"a", "", "b"}}, See: func(p []byte, err error) error {
		if seen += string(p); err == io.EOF {
			ends++
		}
		return nil
	}}
	if got, err := read(&b); got != "ab" || err != nil || seen != "ab" || ends != 1 {
		t.Errorf("%q %v, seen %q, %d ends", got, err, seen, ends)
	}
	refuse := errors.New("no")
	b = stream.Tap{Body: &script{pieces: []string{"a"}}, See: func([]byte, error) error { return refuse }}
	if _, err := b.Next(true); err != refuse {
		t.Error(err)
	}
}

func TestBuffer(t *testing.T) {
	broken := errors.New("broken")
	for _, c := range []struct {
		body  stream.Body
		limit int
		want  string
		ok    bool
		err   error
	}{
		{&script{pieces: []string{"ab", "", "cd"}}, 4, "abcd", true, nil},
		{&script{pieces: []string{"ab", "cd", "ef"}}, 3, "abcd", false, nil},
		{&script{pieces: []string{"ab"}, err: broken}, 9, "ab", false, broken},
		{nil, 0, "", true, nil},
	} {
		all, ok, err := stream.Buffer(c.body, c.limit)
		if string(all.B) != c.want || ok != c.ok || err != c.err {
			t.Errorf("%q %v %v, not %+v", all.B, ok, err, c)
		}
		if !ok && err == nil {
			if got, _ := read(&stream.Joined{First: all.B, Rest: c.body}); got != "abcdef" {
				t.Errorf("the rest is lost: %q", got)
			}
		}
	}
}

func TestReplay(t *testing.T) {
	var r stream.Replay
	r.Reset(&script{pieces: []string{"ab", "", "cd"}}, 4)
	for range 3 {
		if got, err := read(&r); got != "abcd" || err != nil {
			t.Errorf("%q %v", got, err)
		}
		if !r.Ended() || r.Kept() != 4 || !r.Rewind() {
			t.Error("not whole")
		}
	}
	r.Reset(&script{pieces: []string{"ab", "cd", "ef"}}, 3)
	if got, err := read(&r); got != "abcdef" || err != nil {
		t.Errorf("%q %v: the first attempt goes on", got, err)
	}
	if r.Replayable() || r.Rewind() {
		t.Error("more was kept than the limit")
	}
	if got, err := read(&r); got != "ab" || !errors.Is(err, stream.ErrReplayLost) {
		t.Errorf("%q %v", got, err)
	}
}

// TestReplayFailure leaves it to the body whether an error is final: a fiber that was cancelled spoils nothing.
func TestReplayFailure(t *testing.T) {
	src := &script{pieces: []string{"ab"}, err: errors.New("cancelled")}
	var r stream.Replay
	r.Reset(src, 10)
	if got, err := read(&r); got != "ab" || err == nil {
		t.Errorf("%q %v", got, err)
	}
	src.pieces, src.err = []string{"cd"}, nil
	if r.Rewind(); r.Ended() {
		t.Error("ended")
	}
	if got, err := read(&r); got != "abcd" || err != nil {
		t.Errorf("%q %v", got, err)
	}
}

// slow is a body that waits on a fiber until it is fed.
type slow struct {
	w    *fiber.Worker
	feed fiber.Cond
	have []string
	end  bool
	in   int // fibers inside
}

func (s *slow) Next(wait bool) ([]byte, error) {
	if s.in++; s.in > 1 {
		panic("two fibers pull one body")
	}
	defer func() { s.in-- }()
	for len(s.have) == 0 {
		if s.end {
			return nil, io.EOF
		}
		if !wait {
			return nil, nil
		}
		if err := s.feed.Wait(s.w); err != nil {
			return nil, err
		}
	}
	p := s.have[0]
	s.have = s.have[1:]
	return []byte(p), nil
}

// TestCursors lets three attempts at a time read one body: each sees all of it, and only one pulls; when that one is
// cancelled another takes over.
func TestCursors(t *testing.T) {
	fibertest.Each(t, func(t *testing.T, w *fiber.Worker) {
		src := &slow{w: w}
		r := stream.Replay{Worker: w}
		r.Reset(src, 1<<20)
		var tasks [3]fiber.Task
		var got [3]string
		var failed [3]error
		for i := range tasks {
			tasks[i].Start(w, func() {
				var c stream.Cursor
				c.Reset(&r)
				got[i], failed[i] = read(&c)
			})
		}
		want := ""
		for i := range 20 {
			if p := strings.Repeat("x", i+1); i != 7 {
				src.have = append(src.have, p)
				want += p
			} else {
				tasks[0].Join(w)
			}
			src.end = i == 19
			src.feed.Broadcast()
			w.Yield()
		}
		for i := range tasks {
			_ = tasks[i].Wait(w)
			if i > 0 && (got[i] != want || failed[i] != nil) {
				t.Errorf("attempt %d: %d bytes of %d, %v", i, len(got[i]), len(want), failed[i])
			}
		}
		if failed[0] == nil {
			t.Error("the cancelled attempt did not fail")
		}
	})
}

func TestNoAllocation(t *testing.T) {
	var r stream.Replay
	b := stream.Bytes{B: []byte("abc")}
	if n := testing.AllocsPerRun(100, func() {
		b.Rewind()
		r.Reset(&b, 100)
		for range 2 {
			for {
				if _, err := r.Next(true); err == io.EOF {
					break
				}
			}
			r.Rewind()
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
