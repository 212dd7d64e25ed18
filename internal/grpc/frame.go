package grpc

import "encoding/binary"

// HeadSize is the size of what stands before each message: flags and the length, big endian.
const HeadSize = 5

// The flags of a frame.
const (
	Compressed = 1 << 0
	EndStream  = 1 << 1 // Connect: the frame is not a message but says how a streaming call has ended
	Trailers   = 1 << 7 // gRPC-Web: the frame is not a message but holds the trailers
)

// AppendHead appends the head of a frame.
func AppendHead(b []byte, flags byte, length int) []byte {
	return binary.BigEndian.AppendUint32(append(b, flags), uint32(length))
}

// Scanner finds the frames of a body as it passes. The zero Scanner is at the beginning of a body.
type Scanner struct {
	head [HeadSize]byte
	have int    // bytes of head
	left uint32 // bytes of the message that are to come
}

// Part is a part of a body that belongs to one frame.
type Part struct {
	Bytes  []byte // never empty
	Head   int    // Bytes[:Head] belongs to the head of the frame, the rest to its message
	Flags  byte
	Begins bool // with the first byte of the frame
	Ends   bool // with its last
}

// Scan takes the first part off p, which may not be empty.
func (s *Scanner) Scan(p []byte) Part {
	part := Part{Begins: s.have == 0}
	part.Head = copy(s.head[s.have:], p)
	s.have += part.Head
	n := part.Head
	part.Flags = s.head[0]
	if s.have == HeadSize {
		if part.Head > 0 {
			s.left = binary.BigEndian.Uint32(s.head[1:])
		}
		message := uint32(min(uint64(len(p)-n), uint64(s.left)))
		n += int(message)
		s.left -= message
		part.Ends = s.left == 0
	}
	if part.Ends {
		s.have = 0
	}
	part.Bytes = p[:n]
	return part
}

// Count takes all of p and returns how many frames begin in it.
func (s *Scanner) Count(p []byte) (begun int) {
	for len(p) > 0 {
		part := s.Scan(p)
		p = p[len(part.Bytes):]
		if part.Begins {
			begun++
		}
	}
	return begun
}
