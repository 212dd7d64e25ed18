package admin

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	goruntime "runtime"
	"runtime/pprof"
	"strconv"
	"time"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/outrigger-proxy/outrigger/internal/transport"
	"github.com/outrigger-proxy/outrigger/listener"
)

// protoJSON prints m as Envoy does: proto names, one space of indentation. full prints fields that are not set, too.
func protoJSON(m proto.Message, full bool) ([]byte, error) {
	raw, err := protojson.MarshalOptions{UseProtoNames: true, EmitDefaultValues: full}.Marshal(m)
	if err != nil {
		return nil, err
	}
	return indent(raw)
}

// indent makes the spaces of a JSON text what they are in Envoy; protojson leaves them to chance on purpose.
func indent(raw []byte) ([]byte, error) {
	var v json.RawMessage
	if err := json.Unmarshal(raw, &v); err != nil {
		return nil, err
	}
	return json.MarshalIndent(v, "", " ")
}

func (r *response) proto(m proto.Message, full bool) {
	raw, err := protoJSON(m, full)
	if err != nil {
		r.failf(http.StatusInternalServerError, "%v", err)
		return
	}
	r.contentType = typeJSON
	_, _ = r.Write(raw)
	r.WriteByte('\n')
}

func ready(s *Server, w *response, _ *http.Request) {
	state := s.Lifecycle.State()
	if state != adminv3.ServerInfo_LIVE {
		w.status = http.StatusServiceUnavailable
	}
	w.WriteString(state.String() + "\n")
}

func serverInfo(s *Server, w *response, _ *http.Request) {
	up := durationpb.New(time.Since(s.Started).Truncate(time.Second))
	w.proto(&adminv3.ServerInfo{
		Version: s.Lifecycle.Version(), State: s.Lifecycle.State(), UptimeCurrentEpoch: up, UptimeAllEpochs: up,
		HotRestartVersion: "disabled", CommandLineOptions: s.Flags, Node: s.Node,
	}, true)
}

func hotRestartVersion(_ *Server, w *response, _ *http.Request) { w.WriteString("disabled") }

func contention(_ *Server, w *response, _ *http.Request) {
	w.WriteString("mutex contention is not traced\n")
}

func memory(_ *Server, w *response, _ *http.Request) {
	var m goruntime.MemStats
	goruntime.ReadMemStats(&m)
	w.proto(&adminv3.Memory{
		Allocated: m.HeapAlloc, HeapSize: m.HeapSys, PageheapUnmapped: m.HeapReleased, PageheapFree: m.HeapIdle - m.HeapReleased,
		TotalThreadCache: m.MCacheInuse, TotalPhysicalBytes: m.Sys - m.HeapReleased,
	}, true)
}

func certs(s *Server, w *response, _ *http.Request) {
	var uses []transport.Use
	s.Control.Do(func() { uses = s.Secrets.InUse() })
	all := &adminv3.Certificates{}
	for i := range uses {
		all.Certificates = append(all.Certificates, &adminv3.Certificate{CaCert: details(uses[i].CA), CertChain: details(uses[i].Chain)})
	}
	w.proto(all, true)
}

// details shows certificates as Envoy does.
func details(l []transport.Certificate) []*adminv3.CertificateDetails {
	var out []*adminv3.CertificateDetails
	for i := range l {
		c := &l[i]
		d := &adminv3.CertificateDetails{
			Path: c.Path, SerialNumber: c.Serial(), DaysUntilExpiration: c.Days(time.Now()),
			ValidFrom: timestamppb.New(c.Leaf.NotBefore), ExpirationTime: timestamppb.New(c.Leaf.NotAfter),
		}
		if c.Staple != nil {
			d.OcspDetails = &adminv3.CertificateDetails_OcspDetails{ValidFrom: timestamppb.New(c.Staple.From), Expiration: timestamppb.New(c.Staple.Until)}
		}
		for _, n := range c.SANs() {
			d.SubjectAltNames = append(d.SubjectAltNames, name(n[0], n[1]))
		}
		out = append(out, d)
	}
	return out
}

func name(kind, text string) *adminv3.SubjectAlternateName {
	switch kind {
	case "dns":
		return &adminv3.SubjectAlternateName{Name: &adminv3.SubjectAlternateName_Dns{Dns: text}}
	case "uri":
		return &adminv3.SubjectAlternateName{Name: &adminv3.SubjectAlternateName_Uri{Uri: text}}
	}
	return &adminv3.SubjectAlternateName{Name: &adminv3.SubjectAlternateName_IpAddress{IpAddress: text}}
}

func initDump(s *Server, w *response, _ *http.Request) {
	dump := &adminv3.UnreadyTargetsDumps{}
	if s.Lifecycle.State() == adminv3.ServerInfo_INITIALIZING {
		dump.UnreadyTargetsDumps = append(dump.UnreadyTargetsDumps, &adminv3.UnreadyTargetsDumps_UnreadyTargetsDump{
			Name: "init manager Server", TargetNames: s.warming(),
		})
	}
	w.proto(dump, false)
}

// warming names the clusters that the start still waits for.
func (s *Server) warming() (names []string) {
	s.Control.Do(func() {
		for _, c := range s.Clusters.Warming() {
			names = append(names, "target "+strconv.Quote("Cluster "+c))
		}
		for _, n := range s.Dynamic.Pending() {
			names = append(names, "target "+n)
		}
		s.Listeners.Each(func(v listener.View) {
			if v.State == listener.Warming {
				names = append(names, "target "+strconv.Quote("Listener "+v.Name))
			}
		})
	})
	return names
}

func failHealth(s *Server, w *response, _ *http.Request) {
	s.Lifecycle.Fail(true)
	w.WriteString("OK\n")
}

func passHealth(s *Server, w *response, _ *http.Request) {
	s.Lifecycle.Fail(false)
	w.WriteString("OK\n")
}

func reopenLogs(s *Server, w *response, _ *http.Request) {
	s.Lifecycle.ReopenLogs()
	w.WriteString("OK\n")
}

func drainListeners(s *Server, w *response, r *http.Request) {
	q := r.URL.Query()
	s.Lifecycle.DrainListeners(q.Has("inboundonly"), q.Has("graceful"), q.Has("skip_exit"))
	w.WriteString("OK\n")
}

func quit(s *Server, w *response, _ *http.Request) {
	w.WriteString("OK\n")
	time.AfterFunc(10*time.Millisecond, s.Lifecycle.Quit) // once the answer is out
}

func unavailable(_ *Server, w *response, _ *http.Request) {
	w.failf(http.StatusNotImplemented, "not supported by this build\n")
}

func heapDump(_ *Server, w *response, _ *http.Request) {
	w.contentType = typeBinary
	if err := pprof.Lookup("heap").WriteTo(w, 0); err != nil {
		w.failf(http.StatusInternalServerError, "%v\n", err)
	}
}

func cpuProfiler(s *Server, w *response, r *http.Request) {
	switch enable := r.URL.Query().Get("enable"); enable {
	case "y":
		if err := s.startProfile(); err != nil {
			w.failf(http.StatusInternalServerError, "failure to start the profiler: %v\n", err)
			return
		}
	case "n":
		pprof.StopCPUProfile()
	default:
		w.failf(http.StatusBadRequest, "?enable=<y|n>\n")
		return
	}
	w.WriteString("OK\n")
}

// startProfile writes to the configured path until the profile is stopped.
func (s *Server) startProfile() error {
	path := s.Bootstrap.GetAdmin().GetProfilePath()
	if path == "" {
		path = "/var/log/envoy/envoy.prof"
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return fmt.Errorf("%w (and %w)", err, f.Close())
	}
	return nil
}
