package http2_test

import (
	"testing"

	xhttp2 "golang.org/x/net/http2"

	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/fiber/fibertest"
	"github.com/outrigger-proxy/outrigger/internal/http2"
)

// TestHeldFrames: what a peer does not take stands in the gauges, as long as it does not.
func TestHeldFrames(t *testing.T) {
	fibertest.Each(t, func(t *testing.T, w *fiber.Worker) {
		o := http2.Defaults()
		a, b := fiber.Pipe(w)
		s := &end{t: t, w: w, serve: echo}
		s.Server(w, b, &o, s, &s.free, nil)
		p := xhttp2.NewFramer(a, a)
		_, _ = a.Write([]byte(http2.Preface))
		_ = p.WriteSettings()
		for sent := 0; o.Stats.ControlActive.Value() == 0 && sent < 1<<20; sent += 100 {
			for range 100 {
				_ = p.WritePing(false, [8]byte{})
			}
			for range 10 {
				w.Yield()
			}
		}
		if frames, control := o.Stats.FramesActive.Value(), o.Stats.ControlActive.Value(); control == 0 || frames < control {
			t.Errorf("%d frames are held, %d answers of them", frames, control)
		}
		_ = a.Close()
		_ = s.wait()
		if n := o.Stats.FramesActive.Value() + o.Stats.ControlActive.Value(); n != 0 {
			t.Errorf("%d frames are still held", n)
		}
	})
}
