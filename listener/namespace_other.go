//go:build !linux

package listener

import "errors"

// within calls f; other network namespaces are a matter of Linux.
func within(path string, f func() error) error {
	if path != "" {
		return errors.New("network namespaces are not supported on this system")
	}
	return f()
}
