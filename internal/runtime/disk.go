package runtime

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
)

// maxDiskDepth is how deep directories may nest.
const maxDiskDepth = 16

// diskLayer is a tree of files: the path below the root, with dots, is the key; the content, without lines that begin with #, the value.
type diskLayer struct {
	name, root, path string
}

func newDiskLayer(name string, p *bootstrapv3.RuntimeLayer_DiskLayer, serviceCluster string) *diskLayer {
	path := filepath.Join(p.GetSymlinkRoot(), p.GetSubdirectory())
	if p.GetAppendServiceCluster() {
		path = filepath.Join(path, serviceCluster)
	}
	return &diskLayer{name: name, root: p.GetSymlinkRoot(), path: path}
}

func (d *diskLayer) layerName() string { return d.name }

func (d *diskLayer) read() (map[string]entry, bool, error) {
	if s, err := os.Stat(d.path); err != nil || !s.IsDir() {
		return nil, false, nil //nolint:nilerr // a directory that is not there is a layer that does not count
	}
	values := map[string]entry{}
	err := readDirectory(values, d.path, "", 0)
	return values, err == nil, err
}

func readDirectory(into map[string]entry, path, prefix string, depth int) error {
	if depth > maxDiskDepth {
		return fmt.Errorf("%s: directory nested deeper than %d levels", path, maxDiskDepth)
	}
	files, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := readEntry(into, filepath.Join(path, f.Name()), prefix+f.Name(), depth); err != nil {
			return err
		}
	}
	return nil
}

func readEntry(into map[string]entry, path, key string, depth int) error {
	s, err := os.Stat(path)
	switch {
	case err != nil:
		return err
	case s.IsDir():
		return readDirectory(into, path, key+".", depth+1)
	case !s.Mode().IsRegular():
		return errors.New(path + ": neither a file nor a directory")
	}
	content, err := os.ReadFile(path)
	if err == nil {
		into[key] = fromText(withoutComments(string(content)))
	}
	return err
}

func withoutComments(s string) string {
	var kept []string
	for line := range strings.Lines(s) {
		if line = strings.TrimSuffix(line, "\n"); !strings.HasPrefix(line, "#") {
			kept = append(kept, line)
		}
	}
	return strings.TrimRight(strings.Join(kept, "\n"), " \t\r\n")
}
