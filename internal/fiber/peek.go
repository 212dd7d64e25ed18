package fiber

// peeked is input that Peek has taken from the descriptor and nobody has consumed yet.
type peeked struct {
	slab []byte // of worker.Buffers, or of worker.Bulk once that was too small
	r, n int    // slab[r:n] is what there is
	err  error  // came after it: the system tells of a reset only once
}

func (p *peeked) any() bool { return p != nil && (p.n > p.r || p.err != nil) }

func (s *socket) Peek(least int) ([]byte, error) {
	for {
		if s.closed {
			return nil, ErrClosed
		}
		if s.readable && s.fill() {
			continue
		}
		p := s.peek
		switch {
		case p != nil && p.n-p.r >= least:
			return p.slab[p.r:p.n], nil
		case p == nil && least <= 0:
			return nil, nil
		case p != nil && p.err != nil:
			return p.slab[p.r:p.n], p.err
		case least > MaxPeek:
			return p.bytes(), ErrPeekTooLong
		}
		if err := s.waitInput(); err != nil {
			return s.peek.bytes(), err
		}
	}
}

func (p *peeked) bytes() []byte {
	if p == nil {
		return nil
	}
	return p.slab[p.r:p.n]
}

// fill reads once into the slab and says whether that was worth it.
func (s *socket) fill() bool {
	p := s.peek
	if p == nil {
		p = &peeked{slab: s.w.Buffers.Get()}
		s.peek = p
	}
	if p.err != nil || !p.room(s.w) {
		return false
	}
	n, err := s.input(p.slab[p.n:])
	p.n += n
	if err != ErrWouldWait {
		p.err = err
	}
	if p.n == p.r {
		s.releasePeeked() // nothing came after all: wait without a slab
	}
	return n > 0
}

// room makes room behind the bytes.
func (p *peeked) room(w *Worker) bool {
	if p.n < len(p.slab) {
		return true
	}
	if p.r > 0 {
		p.r, p.n = 0, copy(p.slab, p.slab[p.r:p.n])
		return true
	}
	if len(p.slab) >= MaxPeek {
		return false
	}
	b := w.Bulk.Get()[:MaxPeek]
	copy(b, p.slab[:p.n])
	w.Buffers.Put(p.slab)
	p.slab = b
	return true
}

func (s *socket) Discard(n int) {
	if p := s.peek; p != nil {
		p.r = min(p.r+n, p.n)
		s.releasePeeked()
	}
}

// readPeeked consumes what was set aside; 0, nil if there is nothing.
func (s *socket) readPeeked(b []byte) (int, error) {
	p := s.peek
	n := copy(b, p.slab[p.r:p.n])
	p.r += n
	if n == 0 && len(b) > 0 && p.err != nil {
		return 0, p.err
	}
	s.releasePeeked()
	return n, nil
}

// releasePeeked gives the slab back once it is empty; an error stays.
func (s *socket) releasePeeked() {
	p := s.peek
	if p.r < p.n {
		return
	}
	p.r, p.n = 0, 0
	s.putSlab(p)
	if p.err == nil {
		s.peek = nil
	}
}

func (s *socket) dropPeeked() {
	if s.peek != nil {
		s.putSlab(s.peek)
		s.peek = nil
	}
}

func (s *socket) putSlab(p *peeked) {
	switch len(p.slab) {
	case 0:
	case s.w.Buffers.Size:
		s.w.Buffers.Put(p.slab)
	default:
		s.w.Bulk.Put(p.slab)
	}
	p.slab = nil
}
