package filter

import (
	"reflect"
	"strings"
)

// Disable removes an extension from every table, by its name or by category/name (--disable-extensions). It says whether it was in any.
func (e *Extensions) Disable(name string) bool {
	_, after, found := strings.Cut(name, "/")
	if found {
		name = after
	}
	disabled := false
	tables := reflect.ValueOf(e).Elem()
	for _, field := range tables.Fields() {
		if t, ok := reflect.TypeAssert[interface{ Disable(string) bool }](field.Addr()); ok && t.Disable(name) {
			disabled = true
		}
	}
	return disabled
}
