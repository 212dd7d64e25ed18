package protofile

import "slices"

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
	text  string   // of a number or a string
	keys  []string // of a mapping, beside items
	items []*node
	line  int // counted from 1; 0 if there is no text
	kind  kind
	bool  bool // of a boolean
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

// put sets the value of a key; of a repeated one the last counts. at, unless it is nil, keeps where each key is.
func (n *node) put(key string, v *node, at map[string]int) {
	old, twice := at[key]
	if at == nil {
		old = slices.Index(n.keys, key)
		twice = old >= 0
	}
	if twice {
		n.items[old] = v
		return
	}
	if at != nil {
		at[key] = len(n.keys)
	}
	n.keys, n.items = append(n.keys, key), append(n.items, v)
}
