package proxy

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	goruntime "runtime"
	"runtime/debug"
	"syscall"
	"time"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	"go.uber.org/zap"

	"github.com/outrigger-proxy/outrigger/filter"
	"github.com/outrigger-proxy/outrigger/internal/fiber"
	"github.com/outrigger-proxy/outrigger/internal/log"
	"github.com/outrigger-proxy/outrigger/proxy/bootstrap"
	"github.com/outrigger-proxy/outrigger/proxy/options"
)

// Version is what --version prints.
const Version = "0.1.0/1.40.0/Clean/RELEASE/Go"

// Main is the whole program with the extensions of e: it reads the command line, serves, and ends the process with Envoy's exit codes.
func Main(e *filter.Extensions) { os.Exit(Command(os.Args, e, os.Stdout, os.Stderr)) }

// Command is Main without the process around it; the result is the exit code.
func Command(args []string, e *filter.Extensions, stdout, stderr io.Writer) int {
	o, err := options.Parse(args[0], args[1:], Version)
	if exit, ok := errors.AsType[*options.ExitError](err); ok {
		out := stderr
		if exit.Code == 0 {
			out = stdout
		}
		_, _ = io.WriteString(out, exit.Text)
		return exit.Code
	}
	logs, err := openLog(o, stderr)
	if err != nil {
		_, _ = fmt.Fprintln(stderr, "error:", err)
		return 1
	}
	defer logs.Close()
	if err := serve(o, e, logs, stdout); err != nil {
		logs.Get("main").DPanic(fmt.Sprintf("error initializing configuration '%s': %v", o.ConfigPath, err))
		return 1
	}
	return 0
}

// openLog makes the loggers that the command line asks for.
func openLog(o *options.Options, stderr io.Writer) (*log.Set, error) {
	var out log.Output = stderr
	if o.LogPath != "" {
		f, err := log.OpenFile(o.LogPath)
		if err != nil {
			return nil, err
		}
		out = f
	}
	logs := log.New(o.Level, log.CompilePattern(o.LogFormat, o.LogFormatEscaped), out)
	return logs, logs.SetLevels(o.ComponentLevels)
}

func serve(o *options.Options, e *filter.Extensions, logs *log.Set, stdout io.Writer) error {
	started := time.Now()
	if err := prepare(o, e, logs); err != nil {
		return err
	}
	collect := rarely()
	r, err := load(o, logs)
	if err != nil {
		return err
	}
	if o.Concurrency == 0 {
		o.Concurrency = uint32(goruntime.NumCPU())
	}
	p, err := New(r.Bootstrap, Options{Flags: o.CommandLineOptions, Extensions: e, Logs: logs, Engine: engine(), Started: started, LastGoodDir: o.LastGoodDir})
	if err != nil {
		return err
	}
	collect()
	p.server.StaticUnknown.Add(uint64(r.UnknownCount))
	p.server.WIPProtos.Add(uint64(len(r.WIP)))
	p.Runtime.Deprecated(len(r.Deprecated))
	if o.Mode == adminv3.CommandLineOptions_Validate {
		p.Close()
		_, err := fmt.Fprintf(stdout, "configuration '%s' OK\n", o.ConfigPath)
		return err
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGUSR1, syscall.SIGHUP)
	go p.HandleSignals(signals) // ends with the process
	p.Run()
	return nil
}

// rarely lets the collector wait while the configuration is read, where nearly everything that is allocated stays: with 10,000 clusters
// that spares a fifth of the start's CPU, and the peak stays where it was. What GOMEMLIMIT says still holds. The function it returns
// sets what was set before.
func rarely() (collect func()) {
	const percent = 400
	before := debug.SetGCPercent(percent)
	return func() { debug.SetGCPercent(before) }
}

// prepare does what flags ask for before there is a configuration.
func prepare(o *options.Options, e *filter.Extensions, logs *log.Set) error {
	for _, name := range o.DisabledExtensions {
		if !e.Disable(name) {
			logs.Get("misc").Warn("failed to disable invalid extension name '" + name + "'")
		}
	}
	if o.RestartEpoch > 0 && !o.DisableHotRestart && !o.SkipHotRestartOnNoParent {
		return fmt.Errorf("--restart-epoch %d: hot restart is not supported", o.RestartEpoch)
	}
	if o.EnableCoreDump {
		if err := dumpCore(); err != nil {
			logs.Get("main").Warn("failed to enable core dump: " + err.Error())
		}
	}
	if o.BaseIdPath != "" {
		if err := os.WriteFile(o.BaseIdPath, fmt.Append(nil, o.BaseId), 0o644); err != nil {
			return fmt.Errorf("cannot open base id output file %s for writing: %w", o.BaseIdPath, err)
		}
	}
	return nil
}

// load reads the bootstrap, says what is strange about it, and takes over how it wants log lines to look.
func load(o *options.Options, logs *log.Set) (*bootstrap.Result, error) {
	r, err := bootstrap.Load(bootstrap.Source{Path: o.ConfigPath, YAML: o.ConfigYaml, AllowUnknown: o.AllowUnknownStaticFields})
	if err != nil {
		return nil, err
	}
	warn(logs.Get("misc"), "unknown field: ", r.Unknown)
	warn(logs.Get("misc"), "work in progress: ", r.WIP)
	if !o.SkipDeprecatedLogs {
		warn(logs.Get("misc"), "deprecated field: ", r.Deprecated)
	}
	p, err := log.CompileConfig(r.Bootstrap.GetApplicationLogConfig())
	if err != nil {
		return nil, err
	}
	if p != nil && o.LogFormatGiven {
		return nil, log.ErrTwoFormats
	}
	if p != nil {
		logs.SetPattern(p)
	}
	return r, nil
}

func warn(l *zap.Logger, what string, list []string) {
	for _, s := range list {
		l.Warn(what + s)
	}
}

// engine is the event loop, or goroutines if the environment asks for them.
func engine() Engine {
	if os.Getenv("OUTRIGGER_ENGINE") == "goroutine" {
		return fiber.NewGoroutines
	}
	return fiber.New
}
