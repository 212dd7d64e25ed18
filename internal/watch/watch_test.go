package watch

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestMovesAreTold(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	w := New()
	defer w.Close()
	got := make(chan string, 8)
	remove, err := w.Add(dir, func(n string) { got <- n })
	if err != nil {
		t.Fatal(err)
	}
	again, err := w.Add(dir, func(n string) { got <- "again " + n })
	if err != nil {
		t.Fatal(err)
	}
	move(t, other, dir, "a")
	for range 2 {
		if n := next(t, got); n != "a" && n != "again a" {
			t.Errorf("got %q", n)
		}
	}
	remove()
	move(t, other, dir, "b")
	if n := next(t, got); n != "again b" {
		t.Errorf("got %q", n)
	}
	again()
	again()
	if _, err := w.Add(filepath.Join(dir, "none"), nil); err == nil {
		t.Error("a directory that is not there is watched")
	}
	w.Close()
	if _, err := w.Add(dir, nil); err == nil {
		t.Error("a closed watcher watches")
	}
}

func move(t *testing.T, from, to, name string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(from, name), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(from, name), filepath.Join(to, name)); err != nil {
		t.Fatal(err)
	}
}

func next(t *testing.T, c <-chan string) string {
	t.Helper()
	select {
	case s := <-c:
		return s
	case <-time.After(5 * time.Second):
		t.Fatal("nothing is told")
		return ""
	}
}
