// Package lastgood keeps the resources that were accepted from a control plane on disk, so that a process that starts while its control
// plane is away can serve what it served before.
//
// A resource is a file of its own, below a directory for its source and one for its type. A file is written under another name and moved
// into place, by one goroutine, which never holds up the control loop; a checksum tells files that were not written to their end. Directories
// and files are for their owner alone, since there may be private keys among the resources.
package lastgood

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"os"
	"path"
	"path/filepath"
	"strings"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"

	"github.com/outrigger-proxy/outrigger/internal/stats"
)

// Limit is how many bytes all files of a directory may have together.
const Limit = 256 << 20

// Stats are last_good.*
type Stats struct {
	Written stats.Counter `stat:"written"` // resources
	Failed  stats.Counter `stat:"write_failed"`
	Dropped stats.Counter `stat:"dropped"` // there was no room for them
	Served  stats.Counter `stat:"served"`  // resources that came from here
}

// Shelf is the place of the resources of one source. A nil Shelf keeps nothing. Its methods do not wait for the disk, but for Get and All.
type Shelf struct {
	store *Store
	dir   string
}

// Shelf returns the place for a source, whatever its name.
func (s *Store) Shelf(source string) *Shelf {
	if s == nil {
		return nil
	}
	return &Shelf{s, filepath.Join(s.root, fileName(source))}
}

// Put keeps a resource of a type.
func (h *Shelf) Put(typeURL string, r *discoveryv3.Resource) {
	if h == nil {
		return
	}
	b, err := encode(r)
	if err != nil {
		h.store.stats.Failed.Inc()
		return
	}
	h.store.push(job{path: filepath.Join(h.directory(typeURL), fileName(r.GetName())), data: b})
}

// Remove forgets a resource.
func (h *Shelf) Remove(typeURL, name string) {
	if h != nil {
		h.store.push(job{path: filepath.Join(h.directory(typeURL), fileName(name))})
	}
}

// Only forgets all resources of a type but those with the names. From then on the type is known, even if it has no resource.
func (h *Shelf) Only(typeURL string, names []string) {
	if h == nil {
		return
	}
	keep := make(map[string]bool, len(names))
	for _, n := range names {
		keep[fileName(n)] = true
	}
	h.store.push(job{path: h.directory(typeURL), only: keep})
}

// Get returns a resource, nil if there is none that can be read.
func (h *Shelf) Get(typeURL, name string) *discoveryv3.Resource {
	if h == nil {
		return nil
	}
	r, err := read(filepath.Join(h.directory(typeURL), fileName(name)))
	if err != nil || r.GetName() != name {
		return nil
	}
	h.store.stats.Served.Inc()
	return r
}

// All returns the resources of a type; false: nothing is known of the type.
func (h *Shelf) All(typeURL string) (list []*discoveryv3.Resource, known bool) {
	if h == nil {
		return nil, false
	}
	files, err := os.ReadDir(h.directory(typeURL))
	if err != nil {
		return nil, false
	}
	for _, f := range files {
		if r, err := read(filepath.Join(h.directory(typeURL), f.Name())); err == nil {
			list = append(list, r)
		}
	}
	h.store.stats.Served.Add(uint64(len(list)))
	return list, true
}

func (h *Shelf) directory(typeURL string) string { return filepath.Join(h.dir, path.Base(typeURL)) }

// fileName is a name that any file system takes.
func fileName(name string) string {
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:16])
}

// magic begins a file; a checksum follows, and the resource.
const magic = "outrigger last good 1\n"

func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

func encode(r *discoveryv3.Resource) ([]byte, error) {
	const head = len(magic) + 4
	b, err := proto.MarshalOptions{}.MarshalAppend(make([]byte, head, head+proto.Size(r)), r)
	if err != nil {
		return nil, err
	}
	copy(b, magic)
	binary.BigEndian.PutUint32(b[len(magic):], checksum(b[head:]))
	return b, nil
}

// errTorn is a file that was not written to its end, or that something else has written.
var errTorn = errors.New("it is not whole")

func decode(b []byte) (*discoveryv3.Resource, error) {
	rest, ok := strings.CutPrefix(string(b), magic)
	if !ok || len(rest) < 4 || binary.BigEndian.Uint32([]byte(rest)) != checksum([]byte(rest[4:])) {
		return nil, errTorn
	}
	r := &discoveryv3.Resource{}
	if err := proto.Unmarshal([]byte(rest[4:]), r); err != nil {
		return nil, err
	}
	if r.GetResource() == nil {
		return nil, errTorn
	}
	return r, nil
}

func read(path string) (*discoveryv3.Resource, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return decode(b)
}
