package fiber

import (
	"bytes"
	"runtime"
	"strings"
	"sync/atomic"
	"time"
	"unsafe"
)

// Stall is a turn that holds the loop for too long.
type Stall struct {
	Worker int
	Fiber  string        // the function that the fiber runs; "loop" for callbacks of Post, Timer and accept
	Held   time.Duration // at least
	Stack  string        // where it was when it was caught; empty if it had gone on by then
}

// watch is what the loop tells the watchdog: two atomic stores (10 ns) per turn of a fiber, none while nobody watches.
type watch struct {
	// set at construction
	on   bool
	done chan struct{}
	// owned by the worker
	turns uint64
	// atomic
	beat  atomic.Uint64  // changes with every turn of a fiber; 0 while the loop waits
	entry atomic.Uintptr // of the function that runs; 0: a callback
}

// Watch starts a watchdog, which reports each turn that holds the loop longer than limit, once, on a goroutine of its own.
// It must be called before Run; there may be several watchdogs.
func (w *Worker) Watch(limit time.Duration, report func(Stall)) {
	if !w.watch.on {
		w.watch.on, w.watch.done = true, make(chan struct{})
	}
	go w.watch.run(w.ID, limit, report) // ends with Run
}

// busy tells that f, or a callback, has the loop from now on.
func (h *watch) busy(f *Fiber) {
	if !h.on {
		return
	}
	var pc uintptr
	if f != nil {
		pc = f.entry()
	}
	h.turns++
	h.entry.Store(pc)
	h.beat.Store(h.turns)
}

// rest tells that the loop is about to wait.
func (h *watch) rest() {
	if h.on {
		h.beat.Store(0)
	}
}

func (h *watch) end() {
	if h.on {
		close(h.done)
	}
}

func (h *watch) run(id int, limit time.Duration, report func(Stall)) {
	t := time.NewTicker(max(limit/4, time.Millisecond))
	defer t.Stop()
	var last, told uint64
	since := time.Now()
	for {
		select {
		case <-h.done:
			return
		case <-t.C:
		}
		beat := h.beat.Load()
		if beat != last {
			last, since = beat, time.Now()
		}
		if held := time.Since(since); beat != 0 && beat != told && held >= limit {
			told = beat
			s := Stall{Worker: id, Fiber: name(h.entry.Load()), Held: held, Stack: running()}
			if h.beat.Load() != beat {
				s.Stack = ""
			}
			report(s)
		}
	}
}

// entry returns the code of what the fiber runs.
func (f *Fiber) entry() uintptr {
	run := unsafe.Pointer(&f.run)
	if f.idle != nil {
		run = unsafe.Pointer(&f.idle.idle)
	}
	if p := *(**uintptr)(run); p != nil {
		return *p
	}
	return 0
}

func name(pc uintptr) string {
	if f := runtime.FuncForPC(pc); f != nil {
		return f.Name()
	}
	return "loop"
}

// running returns the stacks of the fibers that are not parked.
func running() string {
	buf := make([]byte, 4<<20)
	buf = buf[:runtime.Stack(buf, true)]
	var out []string
	for g := range bytes.SplitSeq(buf, []byte("\n\n")) {
		s := string(g)
		head, _, _ := strings.Cut(s, "\n")
		if strings.Contains(s, "fiber.(*Fiber).life(") && !strings.Contains(head, "[coroutine") && !strings.Contains(s, "fiber.(*thread).leave(") {
			out = append(out, s)
		}
	}
	return strings.Join(out, "\n\n")
}
