//go:build !linux

package pool

import "github.com/outrigger-proxy/outrigger/internal/fiber"

// progress knows nothing here: hosts are never suspected.
func progress(fiber.Conn) Progress { return Progress{} }

func probeOften(int) error { return nil }
