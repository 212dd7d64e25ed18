package protofile

// kind is the kind of a node.
type kind uint8

const (
	null kind = iota
	boolean
	number
	text
	list
	mapping
)

var kindNames = [...]string{"null", "a boolean", "a number", "a string", "a list", "a map"}

// node is a piece of a YAML or JSON document. Both readers make the same tree, so there is one way from a tree to a message.
type node struct {
	kind  kind
	text  string   // of a number or a string
	bool  bool     // of a boolean
	keys  []string // of a mapping, beside items
	items []*node
	line  int // counted from 1; 0 if there is no text
}

// get returns the value of a key, nil if there is none.
func (n *node) get(key string) *node {
	for i, k := range n.keys {
		if k == key {
			return n.items[i]
		}
	}
	return nil
}
