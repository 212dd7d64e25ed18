package xdsclient

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"go.uber.org/zap"

	"github.com/outrigger-proxy/outrigger/internal/protofile"
)

// file is a source: a DiscoveryResponse in a file, which is read again whenever somebody moves a file over it, or into the watched
// directory.
type file struct {
	// set at construction
	c      *Client
	path   string
	dir    string // what is watched
	name   string // in dir; empty: any
	url    string
	remove func()
	end    sync.Once
	// owned by the control loop
	x *mux
}

func (c *Client) file(p *corev3.PathConfigSource) (*file, error) {
	switch {
	case p.GetPollInterval() != nil:
		return nil, errors.New("poll_interval: is not supported: files are watched")
	case p.GetWatchedDirectory().GetWatchModify():
		return nil, errors.New("watched_directory.watch_modify: is not supported: files are moved into place")
	}
	if _, err := os.Stat(p.GetPath()); err != nil {
		return nil, fmt.Errorf("paths must refer to an existing path in the system: '%s' does not exist", p.GetPath())
	}
	f := &file{c: c, path: p.GetPath()}
	f.dir, f.name = filepath.Split(f.path)
	if d := p.GetWatchedDirectory().GetPath(); d != "" {
		f.dir, f.name = d, ""
	}
	if f.dir == "" {
		f.dir = "."
	}
	return f, nil
}

// start watches before it reads, so that no change is lost.
func (f *file) start(x *mux) (err error) {
	f.x = x
	f.remove, err = f.c.files.Add(f.dir, func(moved string) {
		if f.name == "" || moved == f.name {
			f.c.Post(f.read)
		}
	})
	if err != nil {
		return err
	}
	f.read()
	return nil
}

// read takes in what the file says.
func (f *file) read() {
	if f.x.closed {
		return
	}
	r := &discoveryv3.DiscoveryResponse{}
	unknown, err := protofile.Read(f.path, r)
	if err == nil {
		err = protofile.Refuse(unknown)
	}
	if err == nil && r.GetTypeUrl() == "" {
		r.TypeUrl = f.url
	}
	if err != nil {
		f.c.log.Warn("Filesystem config update failure", zap.String("path", f.path), zap.Error(err))
		f.x.failed()
		f.x.giveUp()
		return
	}
	if err := f.x.received(r); err != nil {
		f.c.log.Warn("Filesystem config update rejected", zap.String("path", f.path), zap.Error(err))
	}
}

func (f *file) close() {
	if f.remove != nil {
		f.end.Do(f.remove)
	}
}
