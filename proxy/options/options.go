// Package options is the command line: Envoy's flags, with the syntax, the messages and the exit codes of Envoy's parser. Beyond Envoy,
// --flag=value is read like --flag value, and there is --last-good-dir.
//
// All flags are taken. These do nothing, since what they tune is not there: --enable-mutex-tracing, --enable-fine-grain-logging,
// --log-stacktrace-single-entry, --cpuset-threads (the default number of workers always heeds the CPU set), and, while there is no hot
// restart, --base-id (but --base-id-path writes it), --use-dynamic-base-id, --socket-path, --socket-mode, --parent-shutdown-time-s,
// --disable-hot-restart, --skip-hot-restart-on-no-parent and --skip-hot-restart-parent-stats. A --restart-epoch above 0 is refused unless
// one of --disable-hot-restart and --skip-hot-restart-on-no-parent allows it.
//
// The help texts and the messages are those of Envoy 1.40 (Apache License 2.0), letter for letter: wrappers, init scripts and people read
// them, and --help differs from Envoy's in the name of the program alone: flags of our own are not in it. Do not improve them.
package options

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	"go.uber.org/zap/zapcore"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/outrigger-proxy/outrigger/internal/log"
)

// Options is a parsed command line: the values of the flags, as /server_info shows them, and what is compiled from them.
// A Concurrency of 0 is one worker for each CPU.
type Options struct {
	*adminv3.CommandLineOptions

	Level           zapcore.Level // --log-level
	ComponentLevels []log.ComponentLevel
	LogFormatGiven  bool // --log-format was there
	// LastGoodDir is where accepted resources of control planes are kept (--last-good-dir); empty: nowhere.
	LastGoodDir string

	hotRestartVersion bool
}

// ExitError says that the process ends now: Text is for standard output if Code is 0, else for standard error.
type ExitError struct {
	Code int
	Text string
}

func (e *ExitError) Error() string { return strings.TrimSpace(e.Text) }

// Parse reads the arguments without the program's name. version is what --version prints. Its error is always an *ExitError.
func Parse(program string, args []string, version string) (*Options, error) {
	p := &parser{program: filepath.Base(program), flags: flags(), seen: map[string]bool{}, version: version}
	p.o = &Options{Level: zapcore.InfoLevel, CommandLineOptions: defaults()}
	if err := p.parse(args); err != nil {
		return nil, err
	}
	if err := p.o.complete(); err != nil {
		return nil, &ExitError{1, "error: " + err.Error() + "\n"}
	}
	if p.o.hotRestartVersion {
		return nil, &ExitError{0, "disabled\n"}
	}
	return p.o, nil
}

func defaults() *adminv3.CommandLineOptions {
	return &adminv3.CommandLineOptions{
		LogLevel: "info", LogFormat: log.DefaultFormat, SocketPath: "@envoy_domain_socket",
		FileFlushInterval: durationpb.New(10 * time.Second), FileFlushMinSize: 64,
		DrainTime: durationpb.New(600 * time.Second), ParentShutdownTime: durationpb.New(900 * time.Second),
	}
}

type parser struct {
	program, version string
	flags            []flag
	seen             map[string]bool
	o                *Options
	late             error // the first value that is wrong in itself: reported once the whole line has been read
}

func (p *parser) parse(args []string) error {
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		name, value, inline := strings.Cut(arg, "=")
		if !strings.HasPrefix(arg, "--") {
			name, inline = arg, false
		}
		f := p.find(name)
		if f == nil || inline && f.set == nil {
			return p.fail(arg, "Couldn't find match for argument")
		}
		switch f.name {
		case "ignore_rest":
			return p.end()
		case "version":
			return &ExitError{0, "\n" + p.program + "  version: " + p.version + "\n\n"}
		case "help":
			return &ExitError{0, usage(p.program, p.flags)}
		}
		if p.seen[f.name] && !f.repeated {
			return p.fail(f.id(), "Argument already set!")
		}
		p.seen[f.name] = true
		if f.on != nil {
			f.on(p.o)
			continue
		}
		if !inline {
			if len(args) == 0 {
				return p.fail(f.id(), "Missing a value for this argument!")
			}
			value, args = args[0], args[1:]
		}
		if err := p.set(f, value); err != nil {
			return err
		}
	}
	return p.end()
}

func (p *parser) set(f *flag, value string) error {
	err := f.set(p.o, value)
	if err != nil && f.kind == "uint32_t" {
		return p.fail(f.id(), err.Error())
	}
	if p.late == nil {
		p.late = err
	}
	return nil
}

func (p *parser) end() error {
	if p.late != nil {
		return &ExitError{1, "error: " + p.late.Error() + "\n"}
	}
	return nil
}

// find finds a flag by an argument such as --mode or -c.
func (p *parser) find(arg string) *flag {
	i := slices.IndexFunc(p.flags, func(f flag) bool { return arg == "--"+f.name || f.short != "" && arg == "-"+f.short })
	if i < 0 {
		return nil
	}
	return &p.flags[i]
}

// id names the flag as Envoy's parser does in errors.
func (f *flag) id() string {
	if f.short == "" {
		return "(--" + f.name + ")"
	}
	return "-" + f.short + " (--" + f.name + ")"
}

func (p *parser) fail(argument, reason string) error {
	return &ExitError{1, "PARSE ERROR: Argument: " + argument + "\n             " + reason + "\n\nBrief USAGE: \n" + brief(p.program, p.flags) +
		"\n\nFor complete USAGE and HELP type: \n   " + p.program + " --help\n\n"}
}

// complete checks what takes more than one flag.
func (o *Options) complete() (err error) {
	if o.EnableFineGrainLogging && o.ComponentLogLevel != "" {
		return errors.New("--component-log-level will not work with --enable-fine-grain-logging")
	}
	if o.ComponentLevels, err = log.ParseComponentLevels(o.ComponentLogLevel); err != nil {
		return err
	}
	if o.RestartEpoch > 0 && o.UseDynamicBaseId {
		return fmt.Errorf("cannot use --restart-epoch=%d with --use-dynamic-base-id", o.RestartEpoch)
	}
	return nil
}
