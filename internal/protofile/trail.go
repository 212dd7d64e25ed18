package protofile

import (
	"fmt"
	"strings"
)

// trail is the way from the root of a document to where its reader stands. Nearly always nobody asks for its text, so that is made only
// then: of 10,000 clusters the texts would be a fifth of the work of reading them.
type trail []step

// step is a field, an item of a list (name is empty), or an entry of a map.
type step struct {
	name  string
	index int
	key   bool
}

func (t *trail) field(name string) { *t = append(*t, step{name: name}) }
func (t *trail) item(i int)        { *t = append(*t, step{index: i}) }
func (t *trail) entry(key string)  { *t = append(*t, step{name: key, key: true}) }

// back takes the last step back.
func (t *trail) back() { *t = (*t)[:len(*t)-1] }

func (t trail) String() string {
	var b strings.Builder
	for _, s := range t {
		switch {
		case s.key:
			fmt.Fprintf(&b, "[%q]", s.name)
		case s.name == "":
			fmt.Fprintf(&b, "[%d]", s.index)
		case b.Len() > 0:
			b.WriteByte('.')
			fallthrough
		default:
			b.WriteString(s.name)
		}
	}
	return b.String()
}
