package router

import (
	"context"
	"errors"
	"time"

	"github.com/outrigger-proxy/outrigger/cluster/outlier"
	"github.com/outrigger-proxy/outrigger/cluster/pool"
	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/grpc"
	"github.com/outrigger-proxy/outrigger/internal/stream"
)

// praise reports the head of a response to whoever judges its host.
func (a *attempt) praise() {
	h := a.host
	if h.Outlier != nil {
		if wrong := a.e.cluster.Errors(); wrong == nil {
			a.await(h.Outlier.Status(judged(&a.response, a.e.s.GRPC())))
		} else if wrong(&a.response) {
			a.await(h.Outlier.Report(outlier.Failed, 0))
		} else {
			h.Outlier.Report(outlier.Succeeded, 0)
		}
		if h.Outlier.WantsDegraded() && a.response.Header.Has("x-envoy-degraded") {
			h.Outlier.SaidDegraded()
		}
	}
	if h.Check != nil && a.response.Header.Has("x-envoy-immediate-health-check-fail") {
		h.Check.FailedAtOnce()
	}
}

// patience is for the control loop: an ejection is worth a moment, as the client's next request is not to go there again.
const patience = 20 * time.Millisecond

// await waits until a host that has failed once too often is out. That happens once per ejection.
func (a *attempt) await(d outlier.Decision) {
	if d == nil {
		return
	}
	_, _ = fiber.Await(a.e.s.Worker, func(ctx context.Context) (struct{}, error) {
		late := time.NewTimer(patience)
		defer late.Stop()
		select {
		case <-d:
		case <-late.C:
		case <-ctx.Done():
		}
		return struct{}{}, nil
	})
}

// judged is the status by which a response is judged: that of gRPC, where it stands in the head.
func judged(r *stream.Response, call bool) int {
	if call {
		if v, ok := grpc.StatusOf(&r.Header); ok {
			return v.HTTP()
		}
	}
	return r.Status
}

// blame reports an attempt that came to no response, or whose response has broken off, unless that was not its host's fault.
func (a *attempt) blame(err error) {
	if a.host == nil || a.host.Outlier == nil || errors.Is(err, pool.ErrOverflow) || errors.Is(err, fiber.ErrCancelled) ||
		a.e.bodyErr != nil || a.e.s.Worker.Current().Err() != nil {
		return
	}
	t, timeout := err.(*filter.TimeoutError)
	switch {
	case !timeout:
		a.await(a.host.Outlier.Report(outlier.ConnectFailed, 0))
	case a.blamed || a.response.Status >= 200: // a timeout is told once, and not of a response that is under way
	case t == filter.LimitRoute.Cause(), t == filter.LimitTry.Cause(), t == filter.LimitTryIdle.Cause():
		a.blamed = true
		a.await(a.host.Outlier.Report(outlier.Timeout, a.e.times.status))
	}
}
