package bootstrap

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLoad(t *testing.T) {
	const node = "node: {id: a, cluster: b, locality: {zone: x}}\n"
	for name, c := range map[string]struct {
		file, yaml string // a file named f.yaml unless file is empty
		allow      bool
		id, err    string
		unknown    int
	}{
		"file":                   {file: node, id: "a/b/x"},
		"text":                   {yaml: node, id: "a/b/x"},
		"merged":                 {file: node, yaml: "node: {id: over, locality: {zone: w}}", id: "over/b/w"},
		"neither":                {err: "at least one of --config-path or --config-yaml or Options::configProto() should be non-empty"},
		"unknown in the file":    {file: node + "bogus: 1", err: "bogus: no such field in envoy.config.bootstrap.v3.Bootstrap"},
		"unknown in the text":    {file: node, yaml: "node: {bogus: 1}", err: "--config-yaml: node.bogus: no such field in envoy.config.core.v3.Node"},
		"unknown allowed":        {file: node + "bogus: 1\nworse: 2", yaml: "bogus: 1", allow: true, id: "a/b/x", unknown: 2},
		"constraint":             {file: "static_resources: {clusters: [{}]}", err: "static_resources.clusters[0].name: proto constraint validation failed: value length must be at least 1 runes"},
		"constraint after merge": {file: "admin: {}", yaml: "admin: {address: {}}", err: "admin.address.address: proto constraint validation failed"},
		"syntax":                 {file: "node: {", err: "yaml: line 1"},
	} {
		t.Run(name, func(t *testing.T) {
			s := Source{YAML: c.yaml, AllowUnknown: c.allow}
			if c.file != "" {
				s.Path = filepath.Join(t.TempDir(), "f.yaml")
				if err := os.WriteFile(s.Path, []byte(c.file), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			r, err := Load(s)
			if c.err != "" {
				if err == nil || !strings.HasPrefix(err.Error(), c.err) || strings.Contains(err.Error(), "\n") {
					t.Errorf("error %v, want %s", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			n := r.Bootstrap.GetNode()
			if got := n.GetId() + "/" + n.GetCluster() + "/" + n.GetLocality().GetZone(); got != c.id || r.UnknownCount != c.unknown {
				t.Errorf("got %s, %d unknown", got, r.UnknownCount)
			}
		})
	}
}

func TestMissingFile(t *testing.T) {
	if _, err := Load(Source{Path: filepath.Join(t.TempDir(), "none.yaml")}); err == nil || !strings.HasPrefix(err.Error(), "unable to read file: ") {
		t.Errorf("error %v", err)
	}
}
