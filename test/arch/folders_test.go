package arch

import (
	"go/parser"
	"go/token"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestExtensionFolders holds that the folder of every extension in filter/all has a README, the account of its fields and a test.
func TestExtensionFolders(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), "../../filter/all/all.go", nil, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, i := range f.Imports {
		name, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		dir, ours := strings.CutPrefix(name, module)
		if !ours || strings.Count(dir, "/") < 2 {
			continue // the registry and the contracts
		}
		n++
		for _, file := range []string{"README.md", "fields.golden", "*_test.go"} {
			if found, _ := filepath.Glob(filepath.Join("../..", dir, file)); len(found) == 0 {
				t.Errorf("%s has no %s", dir, file)
			}
		}
	}
	if n == 0 {
		t.Error("no extension found")
	}
}
