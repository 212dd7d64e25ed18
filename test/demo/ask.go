package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
)

// ask sends a GET over a connection and returns the body of a 200.
func ask(c net.Conn, path string) (string, error) {
	q, err := http.NewRequest(http.MethodGet, "http://admin"+path, nil)
	if err != nil {
		return "", err
	}
	if err := q.Write(c); err != nil {
		return "", err
	}
	res, err := http.ReadResponse(bufio.NewReader(c), q)
	if err != nil {
		return "", err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", path, res.Status)
	}
	return string(body), err
}
