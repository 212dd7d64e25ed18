// Package fieldtest holds an extension to the rule that no field of its configuration is silently ignored: a fields.golden beside
// the code has a line for each field, and says whether it is honoured, refused or harmless.
//
//	func TestFields(t *testing.T) { fieldtest.Check(t, "fields.golden", &faultv3.HTTPFault{}) }
//
// A line is `Message.field: honoured|refused|harmless  reason`; the reason may be left out for an honoured field. Blank lines and
// lines that begin with # are free. `go test -update` adds the lines that are missing, as `Message.field: MISSING`, which then
// fail until somebody has decided.
package fieldtest

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

var update = flag.Bool("update", false, "add what is missing to golden files")

// Check fails t unless the file golden has a decided line for each field of msgs and of the messages declared inside of them
// (HttpConnectionManager brings HttpConnectionManager.UpgradeConfig), and no line for a field that is not there.
// Messages that are only referred to are to be passed as well by whoever reads them.
func Check(t *testing.T, golden string, msgs ...proto.Message) {
	t.Helper()
	text, err := os.ReadFile(golden)
	if err != nil && (!*update || !errors.Is(err, fs.ErrNotExist)) {
		t.Fatalf("%v (go test -update makes it)", err)
	}
	problems, missing := check(string(text), msgs)
	if *update && len(missing) > 0 {
		if err := os.WriteFile(golden, []byte(addMissing(string(text), missing)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range problems {
		t.Errorf("%s: %s", golden, p)
	}
}

// check returns what is wrong with text, and the paths that have no line.
func check(text string, msgs []proto.Message) (problems, missing []string) {
	lines := map[string]string{}
	for line := range strings.SplitSeq(text, "\n") {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		path, verdict, _ := strings.Cut(line, ":")
		if _, twice := lines[path]; twice {
			problems = append(problems, path+" has two lines")
		}
		lines[path] = verdict
		if why := judge(verdict); why != "" {
			problems = append(problems, path+": "+why)
		}
	}
	for _, path := range paths(msgs) {
		if _, ok := lines[path]; !ok {
			missing = append(missing, path)
			problems = append(problems, path+" has no line")
		}
		delete(lines, path)
	}
	for path := range lines {
		problems = append(problems, path+" is no field of these messages")
	}
	return problems, missing
}

// judge says what is wrong with what stands behind the path.
func judge(verdict string) string {
	word, reason, _ := strings.Cut(strings.TrimSpace(verdict), " ")
	switch word {
	case "honoured":
		return ""
	case "refused", "harmless":
		if strings.TrimSpace(reason) == "" {
			return word + " needs its reason"
		}
		return ""
	}
	return fmt.Sprintf("%q is not honoured, refused or harmless", word)
}

// paths lists the fields of msgs in the order of their declaration.
func paths(msgs []proto.Message) []string {
	names := map[protoreflect.Name]int{}
	for _, m := range msgs {
		names[m.ProtoReflect().Descriptor().Name()]++
	}
	var all []string
	for _, m := range msgs {
		d := m.ProtoReflect().Descriptor()
		prefix := strings.TrimPrefix(string(d.FullName()), string(d.ParentFile().Package())+".")
		if names[d.Name()] > 1 {
			prefix = string(d.FullName())
		}
		all = fields(all, prefix, d)
	}
	return all
}

func fields(all []string, prefix string, d protoreflect.MessageDescriptor) []string {
	for i := range d.Fields().Len() {
		all = append(all, prefix+"."+string(d.Fields().Get(i).Name()))
	}
	for i := range d.Messages().Len() {
		if m := d.Messages().Get(i); !m.IsMapEntry() {
			all = fields(all, prefix+"."+string(m.Name()), m)
		}
	}
	return all
}

func addMissing(text string, missing []string) string {
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	for _, path := range missing {
		text += path + ": MISSING\n"
	}
	return text
}
