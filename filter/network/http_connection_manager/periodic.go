package hcm

import (
	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// periodic logs a long stream again and again (access_log_flush_interval).
func (x *exchange) periodic(w *fiber.Worker) {
	if x.cfg.logFlush == 0 {
		return
	}
	x.flush.Do = func() {
		x.Info.LogType = stream.LogDownstreamPeriodic
		x.cfg.logs.Log(&x.Stream.Stream)
		x.flush.Set(w, w.Now().Add(x.cfg.logFlush))
	}
	x.flush.Set(w, w.Now().Add(x.cfg.logFlush))
}
