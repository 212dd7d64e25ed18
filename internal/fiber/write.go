package fiber

// WriteBoth writes a and then b, in one system call where c is a plain socket that has room: a head and a body that lie apart. It
// returns how much was written, as Write does. Two writes instead would be two segments, each of which wakes the peer: an upload of 100 KB costs
// 4 us more.
func WriteBoth(c Conn, a, b []byte) (int, error) {
	n := 0
	if s, ok := c.(*socket); ok && !s.closed && s.writable {
		if g, ok := s.sys.(gatherer); ok {
			n = g.gather(a, b)
			s.w.cur.spend(n)
		}
	}
	if n < len(a) {
		m, err := c.Write(a[n:])
		if n += m; err != nil {
			return n, err
		}
	}
	m, err := c.Write(b[n-len(a):])
	return n + m, err
}

// gatherer is an engine that writes two pieces at once, as far as there is room; whatever is wrong shows with the next write.
type gatherer interface{ gather(a, b []byte) int }
