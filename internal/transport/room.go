package transport

import (
	"bytes"
	"crypto/tls"
	"reflect"
	"time"
	"unsafe"
)

// A tls.Conn keeps the room for the largest record that has come, 18 KiB, for its whole life, and has no way to give it back. A connection
// that rests for a while has it taken away: the buffers are empty then, and grow again with the next record. crypto/tls itself is not
// changed; where its fields are is found out, and if they are not what they were nothing is done, which TestIdle notices.
var (
	rawInput = bufferOf[bytes.Buffer]("rawInput") // records as they come
	input    = bufferOf[bytes.Reader]("input")    // what is decrypted of one, in the same memory
	hand     = bufferOf[bytes.Buffer]("hand")     // messages of a handshake
)

const (
	// restful is how long a connection rests before its room is taken away: requests that follow each other make none anew.
	restful = time.Second
	// bearable is how much room a connection may keep: that of small requests.
	bearable = 4 << 10
)

// bufferOf finds a field of tls.Conn, and returns how to get at it; nil if there is none of this name and type.
func bufferOf[T any](name string) func(*tls.Conn) *T {
	f, ok := reflect.TypeFor[tls.Conn]().FieldByName(name)
	if !ok || f.Type != reflect.TypeFor[T]() {
		return nil
	}
	return func(c *tls.Conn) *T { return (*T)(unsafe.Add(unsafe.Pointer(c), f.Offset)) }
}

// roomy says whether the connection holds more room than it should while it rests.
func (c *conn) roomy() bool {
	return rawInput != nil && input != nil && rawInput(c.tls).Cap() > bearable
}

// tidy is called when the connection begins to rest.
func (c *conn) tidy() {
	if c.tidying || !c.roomy() {
		return
	}
	c.tidying = true
	if c.broom.Do == nil {
		c.broom.Do = c.sweep
	}
	c.broom.Set(c.wire.w, c.wire.w.Now().Add(restful))
}

// sweep takes the room of a connection that rests. One that does not, now, comes by again.
func (c *conn) sweep() {
	c.tidying = false
	if c.idle == nil || c.starting || c.closed {
		return
	}
	if raw, in := rawInput(c.tls), input(c.tls); raw.Len() == 0 && in.Len() == 0 {
		*raw, *in = bytes.Buffer{}, bytes.Reader{}
	}
	if hand != nil && hand(c.tls).Len() == 0 {
		*hand(c.tls) = bytes.Buffer{}
	}
}
