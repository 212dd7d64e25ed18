//go:build !linux

package cookie

import "time"

// seconds is the time; other systems have no monotonic one that all programs share.
func seconds() int64 { return time.Now().Unix() }
