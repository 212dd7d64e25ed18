package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestMain plays the roles of the processes that the demo starts: they are this binary.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == "app" || os.Args[1] == "client") {
		main()
		return
	}
	os.Exit(m.Run())
}

// open makes a folder that other users may read, which t.TempDir does not.
func open(t *testing.T) string {
	dir, err := os.MkdirTemp("", "outrigger-test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestNoRequestIsLostWhenAnInstanceDies(t *testing.T) {
	binary := filepath.Join(open(t), "outrigger")
	if out, err := exec.Command("go", "build", "-o", binary, "../../cmd/outrigger").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for name, prepare := range map[string]func(*stage) error{
		"loopback":   func(s *stage) error { return s.loopback("test") },
		"namespaces": (*stage).namespaces,
	} {
		t.Run(name, func(t *testing.T) {
			self, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			s := newEmptyStage(t.Context(), binary, self, open(t))
			if name == "namespaces" && os.Getuid() != 0 {
				t.Skip("network namespaces need root")
			}
			if err := prepare(s); err != nil {
				if name == "namespaces" {
					_ = s.clean()
					t.Skip(err)
				}
				t.Fatal(err)
			}
			defer func() {
				if err := s.clean(); err != nil {
					t.Error(err)
				}
			}()
			if err := s.start(); err != nil {
				t.Fatal(err)
			}
			r, err := s.traffic()
			if err != nil {
				t.Fatal(err)
			}
			if v1 := r.Versions["v1"]; v1+r.Versions["v2"] != requests || v1 < 740 || v1 > 860 {
				t.Errorf("%+v: want %d answers, 80 %% of them from v1", r, requests)
			}
			var out strings.Builder
			if err := s.explain(&out); err != nil || !strings.Contains(out.String(), "http.outbound.downstream_rq_2xx: 1000") {
				t.Errorf("%v\n%s", err, out.String())
			}
		})
	}
}
