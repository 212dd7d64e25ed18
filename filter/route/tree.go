package route

import "errors"

type tree struct{}

func (v *VirtualHost) findTree(*request) *Route { return nil }

func (h *host) matcherTree() error { return errors.New("matcher: is not supported yet") }
