package grpcweb

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"

	"github.com/outrigger-proxy/outrigger/filter"
)

// decoder is the body of a request in base64 on its way to the upstream.
type decoder struct {
	s     *filter.Stream
	src   filter.Body
	rest  [4]byte // too short to be read
	have  int     // bytes of rest
	out   []byte
	early bool // out is a piece that nobody has asked for yet
}

// begin looks at what of the body is there already: if that makes no sense, no upstream need be asked.
func (d *decoder) begin() error {
	p, err := d.Next(false)
	if err == io.EOF {
		return nil // which comes again
	}
	d.early = len(p) > 0
	return err
}

// Next returns the next piece.
func (d *decoder) Next(wait bool) ([]byte, error) {
	if d.early {
		d.early = false
		return d.out, nil
	}
	for {
		p, err := d.src.Next(wait)
		switch {
		case err == io.EOF && d.have > 0:
			return nil, d.refuse("grpc_base_64_decode_failed_bad_size")
		case err != nil || len(p) == 0:
			return nil, err
		}
		if err := d.decode(p); err != nil {
			return nil, d.refuse("grpc_base_64_decode_failed")
		}
		if len(d.out) > 0 {
			return d.out, nil
		}
	}
}

func (d *decoder) refuse(details string) error {
	return d.s.RefuseBody(filter.Reply{Status: 400, Details: details, Body: "Bad gRPC-web request, invalid base64 data."})
}

// decode reads what is whole of the rest and p into d.out.
func (d *decoder) decode(p []byte) (err error) {
	d.out = d.out[:0]
	if d.have > 0 {
		n := copy(d.rest[d.have:], p)
		d.have += n
		p = p[n:]
		if d.have < len(d.rest) {
			return nil
		}
		if d.out, err = appendDecoded(d.out, d.rest[:]); err != nil {
			return err
		}
	}
	whole := len(p) / 4 * 4
	d.have = copy(d.rest[:], p[whole:])
	d.out, err = appendDecoded(d.out, p[:whole])
	return err
}

var (
	strict    = base64.StdEncoding.Strict()
	errBase64 = errors.New("invalid base64 data")
)

// appendDecoded appends what p stands for: groups of four characters, any of which may end with padding.
func appendDecoded(b, p []byte) ([]byte, error) {
	if bytes.IndexByte(p, '\n') >= 0 || bytes.IndexByte(p, '\r') >= 0 {
		return b, errBase64 // which the decoder would skip
	}
	for len(p) > 0 {
		n := len(p)
		if i := bytes.IndexByte(p, '='); i >= 0 {
			n = i/4*4 + 4
		}
		var err error
		if b, err = strict.AppendDecode(b, p[:n]); err != nil {
			return b, errBase64
		}
		p = p[n:]
	}
	return b, nil
}
