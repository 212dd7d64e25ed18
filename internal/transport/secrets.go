package transport

import (
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"github.com/outrigger-proxy/outrigger/internal/protofile"
	"github.com/outrigger-proxy/outrigger/internal/stats"
	"github.com/outrigger-proxy/outrigger/internal/subscription"
	"github.com/outrigger-proxy/outrigger/internal/watch"
)

// Secrets are the certificates, keys and validation contexts of a process that are known by name: those of the bootstrap, and those
// that come from files and change with them (SDS over the filesystem). It belongs to the control loop.
type Secrets struct {
	// Resources is where secrets come from that a control plane sends; nil: nowhere. It is set before the first context is made.
	Resources subscription.Source

	// set at construction
	post  func(func()) bool
	log   *zap.Logger
	scope stats.Scope
	watch *watch.Watcher
	// owned by the control loop
	static   map[string]*tlsv3.Secret
	dynamic  map[secretKey]*secret
	contexts map[*context]struct{}
}

type secretKey struct{ path, name, kind string }

// NewSecrets makes a store without secrets. post runs a function on the control loop.
func NewSecrets(post func(func()) bool, log *zap.Logger, scope stats.Scope) *Secrets {
	return &Secrets{
		post: post, log: log, scope: scope, watch: watch.New(), static: map[string]*tlsv3.Secret{},
		dynamic: map[secretKey]*secret{}, contexts: map[*context]struct{}{},
	}
}

// Add takes the secrets of the bootstrap in. Its errors begin with the index.
func (s *Secrets) Add(list []*tlsv3.Secret) error {
	for i, p := range list {
		if p.GetType() == nil {
			return fmt.Errorf("[%d]: Secret type not implemented", i)
		}
		if s.static[p.GetName()] != nil {
			return fmt.Errorf("[%d]: Duplicate static %s secret name %s", i, kindOf(p), p.GetName())
		}
		if err := try(p); err != nil && kindOf(p) != certificateKind {
			return fmt.Errorf("[%d].%s.%w", i, kindOf(p), err)
		}
		s.static[p.GetName()] = p
	}
	return nil
}

// Close ends the watches.
func (s *Secrets) Close() { s.watch.Close() }

// Static returns the secrets of the bootstrap, sorted by name.
func (s *Secrets) Static() []*tlsv3.Secret {
	return slices.SortedFunc(maps.Values(s.static), func(a, b *tlsv3.Secret) int {
		if a.GetName() < b.GetName() {
			return -1
		}
		return 1
	})
}

// Dynamic is a secret that came from a file.
type Dynamic struct {
	Name, Version string
	Updated       time.Time
	Secret        *tlsv3.Secret // nil: none has come
}

// Dynamic returns the secrets that come from files, sorted by name.
func (s *Secrets) Dynamic() []Dynamic {
	var l []Dynamic
	for _, d := range s.dynamic {
		l = append(l, Dynamic{d.key.name, d.version, d.updated, d.secret})
	}
	slices.SortFunc(l, func(a, b Dynamic) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return l
}

const (
	certificateKind = "tls_certificate"
	validationKind  = "validation_context"
	ticketKind      = "session_ticket_keys"
	genericKind     = "generic_secret"
)

func kindOf(p *tlsv3.Secret) string {
	switch p.GetType().(type) {
	case *tlsv3.Secret_TlsCertificate:
		return certificateKind
	case *tlsv3.Secret_ValidationContext:
		return validationKind
	case *tlsv3.Secret_SessionTicketKeys:
		return ticketKind
	}
	return genericKind
}

// try says whether a secret can be used.
func try(p *tlsv3.Secret) (err error) {
	switch k := p.GetType().(type) {
	case *tlsv3.Secret_TlsCertificate:
		_, err = loadIdentity(k.TlsCertificate)
	case *tlsv3.Secret_ValidationContext:
		_, err = newValidator(k.ValidationContext)
	case *tlsv3.Secret_SessionTicketKeys:
		_, err = ticketKeys(k.SessionTicketKeys)
	}
	return err
}

type sdsStats struct {
	Attempt  stats.Counter   `stat:"update_attempt"`
	Success  stats.Counter   `stat:"update_success"`
	Failure  stats.Counter   `stat:"update_failure"`
	Rejected stats.Counter   `stat:"update_rejected"`
	Timeout  stats.Counter   `stat:"init_fetch_timeout"`
	Rotation stats.Counter   `stat:"key_rotation_failed"`
	Duration stats.Histogram `stat:"update_duration"`
	Time     stats.Gauge     `stat:"update_time"`
	Version  stats.Gauge     `stat:"version"`
	Text     stats.Text      `stat:"version_text"`
}

// rotationStats are what a secret of a control plane counts beside its subscription.
type rotationStats struct {
	Failed stats.Counter `stat:"key_rotation_failed"`
}

// secret is a secret that comes from a file or from a control plane.
type secret struct {
	// set at construction
	s      *Secrets
	key    secretKey
	source *corev3.PathConfigSource  // nil: it comes from a control plane
	stats  *sdsStats                 // of a file
	wish   subscription.Subscription // nil: it comes from a file
	// owned by the control loop
	secret   *tlsv3.Secret // the last good one; nil: none yet
	version  string
	updated  time.Time
	identity *identity // of secret, once somebody has used it
	anchors  *anchors
	users    []*context
	rotation *rotationStats // of a control plane
	heard    bool           // an answer has come, or none in time
	watches  []func()       // of the file itself
	files    []func()       // of the files that the secret names
}

// loaded is the certificate in d: read once, for all who use it.
func (d *secret) loaded() (*identity, error) {
	if d.identity != nil {
		return d.identity, nil
	}
	id, err := loadIdentity(d.secret.GetTlsCertificate())
	if err != nil {
		return nil, err
	}
	id.name = unnamed("cert", d.key.name)
	d.identity = id
	return id, nil
}

// anchored are the trusted certificates in d, read once; nil: there are none, or they cannot be read.
func (d *secret) anchored() *anchors {
	if d == nil || d.secret.GetValidationContext().GetTrustedCa() == nil {
		return nil
	}
	if d.anchors == nil {
		d.anchors, _ = loadAnchors(d.secret.GetValidationContext().GetTrustedCa()) // whoever asks reads it again, and hears of the error
	}
	return d.anchors
}

// changed forgets what was read of the secret before.
func (d *secret) changed() { d.identity, d.anchors = nil, nil }

// find returns the named secret, and follows it for c. Its error is about the configuration, not about what is in a file.
func (s *Secrets) find(p *tlsv3.SdsSecretConfig, kind string, c *context) (*secret, error) {
	if p.GetSdsConfig() == nil {
		known := s.static[p.GetName()]
		if known == nil || kindOf(known) != kind {
			return nil, fmt.Errorf("name: Unknown static %s secret: '%s'", kind, p.GetName())
		}
		return &secret{secret: known, key: secretKey{name: p.GetName()}}, nil
	}
	source := p.GetSdsConfig().GetPathConfigSource()
	if path := p.GetSdsConfig().GetPath(); path != "" {
		source = &corev3.PathConfigSource{Path: path}
	}
	if source.GetPollInterval() != nil {
		return nil, errors.New("sds_config.path_config_source.poll_interval: is not supported: files are watched")
	}
	key := secretKey{sourceKey(p), p.GetName(), kind}
	d := s.dynamic[key]
	fresh := d == nil
	if fresh {
		d = &secret{s: s, key: key, source: source, stats: &sdsStats{}, updated: time.Now()}
		if err := d.open(p); err != nil {
			return nil, fmt.Errorf("sds_config.%w", err)
		}
		s.dynamic[key] = d
	}
	if !slices.Contains(d.users, c) {
		d.users = append(d.users, c)
		c.follows = append(c.follows, d)
	}
	if fresh && d.wish != nil {
		d.wish.Start()
	}
	return d, nil
}

// open finds where the secret comes from.
func (d *secret) open(p *tlsv3.SdsSecretConfig) error {
	if d.source == nil {
		return d.ask(p)
	}
	d.stats = stats.New[sdsStats](d.s.scope.Sub("sds").Sub(p.GetName()))
	if err := d.begin(); err != nil {
		return fmt.Errorf("path_config_source.%w", err)
	}
	return nil
}

// begin watches before it reads, so that no change is lost.
func (d *secret) begin() error {
	dir, name := filepath.Split(d.source.GetPath())
	if w := d.source.GetWatchedDirectory().GetPath(); w != "" {
		dir, name = w, ""
	}
	if dir == "" {
		dir = "."
	}
	stop, err := d.s.watch.Add(dir, func(moved string) {
		if name == "" || moved == name {
			d.s.post(d.reload)
		}
	})
	if err != nil {
		return fmt.Errorf("path: paths must refer to an existing path in the system: '%s' does not exist: %w", d.source.GetPath(), err)
	}
	d.watches = append(d.watches, stop)
	d.read()
	return nil
}

// release ends the interest of c.
func (s *Secrets) release(c *context) {
	delete(s.contexts, c)
	for key, d := range s.dynamic {
		d.users = slices.DeleteFunc(d.users, func(o *context) bool { return o == c })
		if len(d.users) == 0 {
			delete(s.dynamic, key)
			stop(d.watches)
			stop(d.files)
			if d.wish != nil {
				d.wish.Close()
				stats.Drop[rotationStats](s.scope.Sub("sds").Sub(key.name))
				continue
			}
			stats.Drop[sdsStats](s.scope.Sub("sds").Sub(key.name))
		}
	}
}

func stop(l []func()) {
	for _, f := range l {
		f()
	}
}

// reload reads the file again and lets everybody know who uses it.
func (d *secret) reload() {
	d.changed()
	if d.source == nil { // the files that a secret names have changed
		if d.spread() != nil {
			d.rotation.Failed.Inc()
		}
		return
	}
	if d.read() && d.spread() != nil {
		d.stats.Rejected.Inc()
	}
}

// read takes in what the file says, unless it is bad or the same: then the old secret stays.
func (d *secret) read() bool {
	d.stats.Attempt.Inc()
	secret, version, err := d.load()
	if err != nil {
		d.stats.Rejected.Inc()
		d.s.log.Warn("Filesystem config update rejected", zap.String("path", d.source.GetPath()), zap.String("secret", d.key.name), zap.Error(err))
		return false
	}
	d.follow(secret)
	d.stats.Success.Inc()
	d.stats.Time.Set(time.Now().UnixMilli())
	d.stats.Text.Set(version)
	d.secret, d.version, d.updated = secret, version, time.Now()
	return true
}

func (d *secret) load() (*tlsv3.Secret, string, error) {
	version, resources, err := readResponse(d.source.GetPath())
	switch {
	case err != nil:
		return nil, "", err
	case len(resources) == 0:
		return nil, "", fmt.Errorf("Missing SDS resources for %s in onConfigUpdate()", d.key.name)
	case len(resources) > 1:
		return nil, "", fmt.Errorf("Unexpected SDS secrets length: %d", len(resources))
	}
	m, _, err := protofile.Unpack(resources[0])
	if err != nil {
		return nil, "", fmt.Errorf("resources[0]: %w", err)
	}
	if _, err := protofile.Check(m); err != nil {
		return nil, "", fmt.Errorf("resources[0].%w", err)
	}
	secret, ok := m.(*tlsv3.Secret)
	if !ok {
		return nil, "", fmt.Errorf("resources[0]: %s is not a secret", m.ProtoReflect().Descriptor().FullName())
	}
	return secret, version, d.fits(secret)
}

// follow watches the files that the secret names, by their directories, as Envoy does.
func (d *secret) follow(p *tlsv3.Secret) {
	stop(d.files)
	d.files = nil
	for dir := range directories(p) {
		w, err := d.s.watch.Add(dir, func(string) { d.s.post(d.reload) })
		if err != nil {
			d.s.log.Warn("cannot follow a secret", zap.String("secret", d.key.name), zap.Error(err))
			continue
		}
		d.files = append(d.files, w)
	}
}

// directories are where the files of a secret may be replaced.
func directories(p *tlsv3.Secret) map[string]bool {
	dirs := map[string]bool{}
	add := func(watched *corev3.WatchedDirectory, sources ...*corev3.DataSource) {
		for _, f := range sources {
			if f.GetFilename() != "" && watched == nil {
				dirs[filepath.Dir(f.GetFilename())] = true
			}
			if f.GetFilename() != "" && f.GetWatchedDirectory() != nil {
				dirs[f.GetWatchedDirectory().GetPath()] = true
			}
		}
		if watched != nil {
			dirs[watched.GetPath()] = true
		}
	}
	if c := p.GetTlsCertificate(); c != nil {
		add(c.GetWatchedDirectory(), c.GetCertificateChain(), c.GetPrivateKey(), c.GetPkcs12(), c.GetOcspStaple(), c.GetPassword())
	}
	if v := p.GetValidationContext(); v != nil {
		add(v.GetWatchedDirectory(), v.GetTrustedCa(), v.GetCrl())
	}
	if k := p.GetSessionTicketKeys(); k != nil {
		add(nil, k.GetKeys()...)
	}
	return dirs
}

// Certificate is a certificate in use, for /certs.
type Certificate struct {
	Path   string
	Leaf   *x509.Certificate
	Staple *Staple // nil: none
}

// Staple is when an OCSP response is valid.
type Staple struct{ From, Until time.Time }

// SANs are the names in the certificate, as /certs shows them: kind (dns, uri, ip_address) and text.
func (c *Certificate) SANs() [][2]string {
	kinds := map[sanKind]string{dnsName: "dns", uriName: "uri", ipName: "ip_address"}
	var out [][2]string
	for _, k := range []sanKind{dnsName, uriName, ipName} {
		for _, t := range texts(sans(c.Leaf), k) {
			out = append(out, [2]string{kinds[k], t})
		}
	}
	return out
}

// Serial is the serial number in hex.
func (c *Certificate) Serial() string { return serial(c.Leaf) }

// Days is how many days are left until the certificate expires; 0 if it has.
func (c *Certificate) Days(now time.Time) uint64 {
	if d := c.Leaf.NotAfter.Sub(now); d > 0 {
		return uint64(d / (24 * time.Hour))
	}
	return 0
}

// Use is what one context uses.
type Use struct{ CA, Chain []Certificate }

// InUse lists what every context uses, in the order of their making.
func (s *Secrets) InUse() []Use {
	l := slices.SortedFunc(maps.Keys(s.contexts), func(a, b *context) int { return int(a.number) - int(b.number) })
	var out []Use
	for _, c := range l {
		out = append(out, c.use())
	}
	return out
}

// FirstExpiry is in how many days the first certificate expires; ok is false if there is none.
func (s *Secrets) FirstExpiry(now time.Time) (days uint64, ok bool) {
	for c := range s.contexts {
		u := c.use()
		for _, l := range [][]Certificate{u.CA, u.Chain} {
			for i := range l {
				if d := l[i].Days(now); !ok || d < days {
					days, ok = d, true
				}
			}
		}
	}
	return days, ok
}

// Redacted is a copy of a secret without keys, for the config dump.
func Redacted(p *tlsv3.Secret) *tlsv3.Secret {
	const hidden = "[redacted]"
	p = proto.CloneOf(p)
	hide := func(s *corev3.DataSource) {
		switch s.GetSpecifier().(type) {
		case *corev3.DataSource_InlineBytes:
			s.Specifier = &corev3.DataSource_InlineBytes{InlineBytes: []byte(hidden)}
		case *corev3.DataSource_InlineString:
			s.Specifier = &corev3.DataSource_InlineString{InlineString: hidden}
		}
	}
	if c := p.GetTlsCertificate(); c != nil {
		hide(c.GetPrivateKey())
		hide(c.GetPassword())
		hide(c.GetPkcs12())
	}
	for _, k := range p.GetSessionTicketKeys().GetKeys() {
		hide(k)
	}
	if g := p.GetGenericSecret(); g != nil {
		hide(g.GetSecret())
		for _, k := range g.GetSecrets() {
			hide(k)
		}
	}
	return p
}
