package logfile

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/outrigger-proxy/outrigger/internal/stats"
)

func newSet(t *testing.T, o Options) *Set {
	t.Helper()
	s := New(o, (&stats.Store{}).Root())
	t.Cleanup(s.Close)
	return s
}

func openFile(t *testing.T, s *Set, path string) *File {
	t.Helper()
	f, err := s.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func content(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestLinesOfAllWorkersAreWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.log")
	s := newSet(t, Options{Workers: 2})
	f := openFile(t, s, path)
	if openFile(t, s, path) != f {
		t.Error("the same path is another file")
	}
	f.Write(0, []byte("one\n"))
	f.Write(0, []byte("two\n"))
	f.Write(1, []byte("three\n"))
	f.Write(-1, []byte("four\n"))
	if got := content(t, path); got != "" {
		t.Errorf("written too early: %q", got)
	}
	s.Flush()
	if got := content(t, path); got != "one\ntwo\nthree\nfour\n" {
		t.Errorf("%q", got)
	}
	if c := s.counters; c.Buffered.Value() != 4 || c.Completed.Value() != 3 || c.TotalBuffered.Value() != 0 {
		t.Error("counters", c.Buffered.Value(), c.Completed.Value(), c.TotalBuffered.Value())
	}
}

func TestAppendsToWhatIsThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.log")
	if err := os.WriteFile(path, []byte("old\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := newSet(t, Options{})
	openFile(t, s, path).Write(0, []byte("new\n"))
	s.Close()
	if got := content(t, path); got != "old\nnew\n" {
		t.Errorf("%q", got)
	}
}

func TestFlushedAfterTheInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "a.log")
		s := New(Options{FlushInterval: time.Minute, Workers: 1}, (&stats.Store{}).Root())
		defer s.Close()
		openFile(t, s, path).Write(0, []byte("line\n"))
		time.Sleep(time.Minute - 1) // of the bubble's clock
		synctest.Wait()
		if got := content(t, path); got != "" {
			t.Errorf("too early: %q", got)
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if got := content(t, path); got != "line\n" || s.counters.FlushedByTimer.Value() != 1 {
			t.Errorf("%q, by timer %d", got, s.counters.FlushedByTimer.Value())
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if s.counters.FlushedByTimer.Value() != 1 {
			t.Error("there was nothing to flush")
		}
	})
}

func TestFlushedOnceItIsMuch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "a.log")
		s := New(Options{FlushInterval: time.Hour, MinFlush: 10, Workers: 1}, (&stats.Store{}).Root())
		defer s.Close()
		f := openFile(t, s, path)
		f.Write(0, []byte("12345678\n"))
		synctest.Wait()
		if got := content(t, path); got != "" {
			t.Errorf("too early: %q", got)
		}
		f.Write(0, []byte("9\n"))
		synctest.Wait()
		if got := content(t, path); got != "12345678\n9\n" {
			t.Errorf("%q", got)
		}
	})
}

func TestReopen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		path, moved := filepath.Join(dir, "a.log"), filepath.Join(dir, "a.log.1")
		s := New(Options{Workers: 1}, (&stats.Store{}).Root())
		defer s.Close()
		f := openFile(t, s, path)
		f.Write(0, []byte("before\n"))
		if err := os.Rename(path, moved); err != nil {
			t.Fatal(err)
		}
		s.Reopen()
		synctest.Wait()
		f.Write(0, []byte("after\n"))
		s.Flush()
		if a, b := content(t, moved), content(t, path); a != "before\n" || b != "after\n" {
			t.Errorf("%q, %q", a, b)
		}
	})
}

func TestReopenThatFailsKeepsTheFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "d")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		s := New(Options{}, (&stats.Store{}).Root())
		defer s.Close()
		f := openFile(t, s, filepath.Join(dir, "a.log"))
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		s.Reopen()
		synctest.Wait()
		f.Write(0, []byte("x\n"))
		s.Flush()
		if c := s.counters; c.ReopenFailed.Value() != 1 || c.Completed.Value() != 1 || c.Failed.Value() != 0 {
			t.Error("counters", c.ReopenFailed.Value(), c.Completed.Value(), c.Failed.Value())
		}
	})
}

func TestFullDiskLosesLinesAndCounts(t *testing.T) {
	s := newSet(t, Options{Workers: 1})
	f := openFile(t, s, "/dev/full")
	f.Write(0, []byte("lost\n"))
	s.Flush()
	f.Write(0, []byte("lost too\n"))
	s.Flush()
	if c := s.counters; c.Failed.Value() != 2 || c.Completed.Value() != 0 || c.TotalBuffered.Value() != 0 {
		t.Error("counters", c.Failed.Value(), c.Completed.Value(), c.TotalBuffered.Value())
	}
}

// A pipe that nobody reads blocks its writer: workers go on, lines beyond the limit are lost, and other files are written.
func TestBlockedFileHoldsUpNobody(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	s := New(Options{Workers: 1, MinFlush: 1, MaxBuffered: 1 << 20}, (&stats.Store{}).Root())
	blocked := newFile("pipe", w, s)
	s.files["pipe"] = blocked
	line := []byte(strings.Repeat("x", 1023) + "\n")
	for range 4096 { // 4 MiB: more than the pipe and the buffer take
		blocked.Write(0, line)
	}
	if s.counters.Failed.Value() == 0 {
		t.Error("no line was lost")
	}
	path := filepath.Join(t.TempDir(), "other.log")
	other := openFile(t, s, path)
	other.Write(0, []byte("fine\n"))
	done := make(chan struct{})
	other.flush <- done
	<-done
	if got := content(t, path); got != "fine\n" {
		t.Errorf("%q", got)
	}
	_ = r.Close() // the write fails with EPIPE, so that Close can end
	s.Close()
}

func TestErrors(t *testing.T) {
	s := newSet(t, Options{})
	if _, err := s.Open(t.TempDir()); err == nil || !strings.Contains(err.Error(), "unable to open file '") {
		t.Error("a directory:", err)
	}
	s.Close()
	if _, err := s.Open(filepath.Join(t.TempDir(), "a")); err == nil {
		t.Error("after Close")
	}
	s.Flush()
	s.Reopen()
}

func TestManyWorkers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.log")
	s := newSet(t, Options{Workers: 4, MinFlush: 256})
	f := openFile(t, s, path)
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 1000 {
				f.WriteFunc(w, func(b []byte) []byte { return append(strconv.AppendInt(append(b, 'a'+byte(w)), int64(i), 10), '\n') })
			}
		})
	}
	wg.Wait()
	s.Flush()
	next := map[byte]int{}
	for line := range strings.Lines(content(t, path)) {
		if want := strconv.Itoa(next[line[0]]); strings.TrimSpace(line[1:]) != want {
			t.Fatalf("%q, want %s", line, want)
		}
		next[line[0]]++
	}
	if len(next) != 4 || next['a'] != 1000 || next['d'] != 1000 {
		t.Error(next)
	}
}

func TestWriteDoesNotAllocate(t *testing.T) {
	s := newSet(t, Options{Workers: 1, FlushInterval: time.Hour, MinFlush: 1 << 30})
	f := openFile(t, s, filepath.Join(t.TempDir(), "a.log"))
	f.slots[0].lines = make([]byte, 0, 1<<20)
	line := []byte("a line\n")
	if n := testing.AllocsPerRun(100, func() { f.Write(0, line) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
