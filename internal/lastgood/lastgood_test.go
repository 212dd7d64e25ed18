package lastgood

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"go.uber.org/zap"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/outrigger-proxy/outrigger/internal/stats"
)

const kind = "type.googleapis.com/some.Kind"

// session opens the directory, does something, and waits until it is on disk.
func session(t *testing.T, dir string, limit int64, f func(*Store)) *Stats {
	t.Helper()
	s, err := Open(dir, stats.New[Stats]((&stats.Store{}).Root().Sub("last_good")), zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	s.limit = limit
	f(s)
	s.Close()
	s.Run()
	return s.stats
}

func resource(t testing.TB, name, value string) *discoveryv3.Resource {
	t.Helper()
	a, err := anypb.New(&corev3.Node{Id: value})
	if err != nil {
		t.Fatal(err)
	}
	return &discoveryv3.Resource{Name: name, Version: "v" + value, Resource: a}
}

// shown are the resources of a kind.
func shown(h *Shelf) string {
	list, known := h.All(kind)
	if !known {
		return "unknown"
	}
	var l []string
	for _, r := range list {
		l = append(l, r.GetName()+"="+r.GetVersion())
	}
	slices.Sort(l)
	return strings.Join(l, " ")
}

func TestStore(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "dir")
	for _, step := range []struct {
		what string
		do   func(h *Shelf)
		want string
	}{
		{"nothing", func(*Shelf) {}, "unknown"},
		{"known, but none", func(h *Shelf) { h.Only(kind, nil) }, ""},
		{"two", func(h *Shelf) { h.Put(kind, resource(t, "a/../..", "1")); h.Put(kind, resource(t, "b", "1")) }, "a/../..=v1 b=v1"},
		{"the last one counts", func(h *Shelf) { h.Put(kind, resource(t, "b", "2")); h.Put(kind, resource(t, "b", "3")) }, "a/../..=v1 b=v3"},
		{"another kind and another source", func(h *Shelf) {
			h.Put(kind+"2", resource(t, "c", "1"))
			h.store.Shelf("other").Put(kind, resource(t, "d", "1"))
		}, "a/../..=v1 b=v3"},
		{"removed", func(h *Shelf) { h.Remove(kind, "b"); h.Remove(kind, "none") }, "a/../..=v1"},
		{"removed and put again", func(h *Shelf) { h.Remove(kind, "b"); h.Put(kind, resource(t, "b", "4")) }, "a/../..=v1 b=v4"},
		{"put, swept, put", func(h *Shelf) {
			h.Put(kind, resource(t, "b", "5"))
			h.Only(kind, []string{"a/../.."})
			h.Put(kind, resource(t, "b", "6"))
		}, "a/../..=v1 b=v6"},
		{"only one", func(h *Shelf) { h.Only(kind, []string{"b"}) }, "b=v6"},
	} {
		session(t, dir, Limit, func(s *Store) { step.do(s.Shelf("source")) })
		session(t, dir, Limit, func(s *Store) {
			if got := shown(s.Shelf("source")); got != step.want {
				t.Errorf("%s: %q, want %q", step.what, got, step.want)
			}
		})
	}
	session(t, dir, Limit, func(s *Store) {
		if got := s.Shelf("other").Get(kind, "d"); got.GetVersion() != "v1" {
			t.Errorf("the other source has %v", got)
		}
		if got := s.Shelf("other").Get(kind, "a"); got != nil {
			t.Errorf("there is %v", got)
		}
	})
}

func TestNothingIsWrittenTwice(t *testing.T) {
	dir := t.TempDir()
	put := func(s *Store) { s.Shelf("x").Put(kind, resource(t, "a", "1")) }
	if n := session(t, dir, Limit, put).Written.Value(); n != 1 {
		t.Errorf("%d were written", n)
	}
	if n := session(t, dir, Limit, put).Written.Value(); n != 0 {
		t.Errorf("%d were written again", n)
	}
}

func TestFilesAreForTheirOwner(t *testing.T) {
	dir := t.TempDir()
	session(t, dir, Limit, func(s *Store) { s.Shelf("x").Put(kind, resource(t, "a", "1")) })
	n := 0
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if n++; path != dir && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	})
	if err != nil || n != 4 {
		t.Errorf("%d files, %v", n, err)
	}
}

func TestTornFiles(t *testing.T) {
	whole, err := encode(resource(t, "a", "1"))
	if err != nil {
		t.Fatal(err)
	}
	for n := range whole {
		if _, err := decode(whole[:n]); err == nil {
			t.Errorf("%d of %d bytes are taken for a resource", n, len(whole))
		}
	}
	whole[len(whole)-1] ^= 1
	if _, err := decode(whole); err == nil {
		t.Error("a flipped bit is not noticed")
	}
}

func TestLimit(t *testing.T) {
	dir := t.TempDir()
	one, err := encode(resource(t, "old0", "1"))
	if err != nil {
		t.Fatal(err)
	}
	limit := int64(3 * len(one))
	put := func(name string, n int) func(*Store) {
		return func(s *Store) {
			for i := range n {
				s.Shelf("x").Put(kind, resource(t, fmt.Sprint(name, i), "1"))
				if i == 1 { // what waits is bounded, too
					q, _ := s.take()
					for _, j := range q {
						s.do(j)
					}
				}
			}
		}
	}
	session(t, dir, limit, put("old", 3))
	if n := session(t, dir, limit, put("new", 4)).Dropped.Value(); n != 1 {
		t.Errorf("%d were dropped", n)
	}
	session(t, dir, limit, func(s *Store) {
		if got := shown(s.Shelf("x")); got != "new0=v1 new1=v1 new2=v1" {
			t.Errorf("kept %s", got)
		}
	})
}

func TestADirectoryThatCannotBe(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(filepath.Join(file, "dir"), &Stats{}, zap.NewNop()); err == nil {
		t.Error("a directory in a file was opened")
	}
	var none *Store
	none.Close()
	h := none.Shelf("x")
	h.Put(kind, resource(t, "a", "1"))
	h.Remove(kind, "a")
	h.Only(kind, nil)
	if _, known := h.All(kind); known || h.Get(kind, "a") != nil {
		t.Error("nothing keeps something")
	}
}

func FuzzDecode(f *testing.F) {
	whole, err := encode(resource(f, "a", "1"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decode(b)
		if err == nil && r.GetResource() == nil {
			t.Error("a resource without a body")
		}
	})
}
