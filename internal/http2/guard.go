package http2

import (
	"slices"
	"time"

	"github.com/outrigger-proxy/outrigger/internal/fiber"
)

// guard counts what a peer could do too often (Envoy: ProtocolConstraints).
type guard struct {
	empty, priority, updates uint64
	dataSent                 uint64
	tokens                   uint64 // of resets
	filled                   fiber.Time
	reset                    [rememberedResets]uint32 // streams that we reset last: frames that were under way to them are no fault
	resets                   int
}

var (
	errEmptyFlood    = &Error{EnhanceYourCalm, "http2.inbound_empty_frames_flood", "too many consecutive frames with an empty payload"}
	errPriorityFlood = &Error{EnhanceYourCalm, "http2.inbound_priority_frames_flood", "too many PRIORITY frames"}
	errUpdateFlood   = &Error{EnhanceYourCalm, "http2.inbound_window_update_frames_flood", "too many WINDOW_UPDATE frames"}
	errResetFlood    = &Error{InternalError, "http2.reset_flood", "too many RST_STREAM frames"}
	errControlFlood  = &Error{EnhanceYourCalm, "http2.outbound_control_frames_flood", "too many control frames in the outbound queue"}
	errFlood         = &Error{EnhanceYourCalm, "http2.outbound_frames_flood", "too many frames in the outbound queue"}
	errContinuations = &Error{EnhanceYourCalm, "http2.too_many_continuations", "too many CONTINUATION frames"}
	errSettingsFlood = &Error{EnhanceYourCalm, "http2.too_many_settings", "too many entries in SETTINGS"}
)

// inbound counts a frame that has come.
func (g *guard) inbound(c *Conn, f frame) *Error {
	switch f.kind {
	case frameData, frameHeaders, frameContinuation:
		if f.length > 0 || f.flags&flagEndStream != 0 && f.kind != frameContinuation {
			g.empty = 0
			return nil
		}
		if g.empty++; g.empty > uint64(c.o.MaxEmpty) {
			c.o.Stats.EmptyFlood.Inc()
			return errEmptyFlood
		}
	case framePriority:
		if g.priority++; g.priority > uint64(c.o.MaxPriority)*(1+c.Opened) {
			c.o.Stats.PriorityFlood.Inc()
			return errPriorityFlood
		}
	case frameUpdate:
		if g.updates++; g.updates > 5+2*(c.Opened+uint64(c.o.MaxUpdates)*g.dataSent) {
			c.o.Stats.UpdateFlood.Inc()
			return errUpdateFlood
		}
	}
	return nil
}

// rst takes a token for an RST_STREAM that has come to a server.
func (g *guard) rst(c *Conn) *Error {
	now := c.w.Now()
	if since := time.Duration(now - g.filled); since >= time.Second || g.filled == 0 {
		g.tokens = min(c.o.ResetBurst, g.tokens+c.o.ResetRate*uint64(since/time.Second))
		g.filled = now
	}
	if g.tokens == 0 {
		return errResetFlood
	}
	g.tokens--
	return nil
}

// outbound judges how much waits to be written.
func (g *guard) outbound(c *Conn) *Error {
	switch {
	case c.out.control > c.o.MaxControl:
		c.o.Stats.ControlFlood.Inc()
		return errControlFlood
	case c.out.frames > c.o.MaxFrames:
		c.o.Stats.Flood.Inc()
		return errFlood
	}
	return nil
}

// noteReset remembers a stream that we have reset.
func (g *guard) noteReset(id uint32) {
	g.reset[g.resets%rememberedResets] = id
	g.resets++
}

// wasReset says whether frames for a stream that has ended may be the peer's answer to what it could not know.
func (g *guard) wasReset(id uint32) bool {
	if slices.Contains(g.reset[:min(g.resets, rememberedResets)], id) {
		return true
	}
	return g.resets > rememberedResets
}
