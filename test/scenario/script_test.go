package scenario

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// An answer of an upstream is an HTTP message (its line ends are mended, and its length is added unless it says one), or one of
//
//	close     ends the connection
//	reset     ends it with a reset
//	hold      never answers
//	script    steps, one a line:
//
//	    send TEXT    sends bytes, with Go's escapes
//	    fill N       sends N letters
//	    wait         waits for `release NAME`
//	    echo         sends back what comes, to its end
//	    eof          reads up to the end of what comes
//	    half         ends its side
//	    pause        50 ms
//	    close, reset, hold
//
// A script ends with the connection open for the next request, unless it ends the connection.

// play runs the steps of a script and says whether the connection goes on.
func (u *upstream) play(c net.Conn, r *bufio.Reader, steps []string) bool {
	for _, step := range steps {
		word, rest, _ := strings.Cut(strings.TrimSpace(step), " ")
		if !u.step(c, r, word, rest) {
			return false
		}
	}
	return true
}

func (u *upstream) step(c net.Conn, r *bufio.Reader, word, rest string) bool {
	switch word {
	case "send":
		text, err := unescape(rest)
		if err != nil {
			text = err.Error()
		}
		_, err = io.WriteString(c, text)
		return err == nil
	case "fill":
		n, _ := strconv.Atoi(rest)
		_, err := io.WriteString(c, strings.Repeat("x", n))
		return err == nil
	case "wait":
		select {
		case <-u.gate:
		case <-u.ended:
			return false
		}
	case "pause":
		<-time.After(50 * time.Millisecond)
	case "echo":
		_, err := io.Copy(io.MultiWriter(c, u), r)
		return err == nil
	case "eof", "hold":
		_, err := io.Copy(u, r)
		return err == nil && word == "eof"
	case "half":
		return c.(*net.TCPConn).CloseWrite() == nil
	case "close":
		return false
	case "reset":
		_ = c.(*net.TCPConn).SetLinger(0)
		return false
	default:
		u.note(fmt.Sprintf("no step %q\n", word))
	}
	return true
}

// Write notes bytes that a script read; it is an io.Writer for that.
func (u *upstream) Write(p []byte) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.bytes = append(u.bytes, p...)
	return len(p), nil
}
