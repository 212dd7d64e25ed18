package cluster

import "fmt"

// typed is a load_balancing_policy with one policy of a type below type.googleapis.com; config is the inside of its message.
func typed(name, kind, config string) string {
	if config != "" {
		config = ", " + config
	}
	return fmt.Sprintf("load_balancing_policy: {policies: [{typed_extension_config: {name: %s, typed_config: {'@type': type.googleapis.com/%s%s}}}]}\n", name, kind, config)
}
