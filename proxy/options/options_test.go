package options

import (
	"errors"
	"strings"
	"testing"
	"time"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	"go.uber.org/zap/zapcore"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/outrigger-proxy/outrigger/internal/log"
)

func parse(args ...string) (*Options, error) { return Parse("/usr/bin/outrigger", args, "1/2") }

// TestEveryFlag: each flag of Envoy 1.40 is taken and lands where /server_info shows it.
func TestEveryFlag(t *testing.T) {
	got, err := parse(strings.Fields(`--stats-tag a:b --stats-tag c:d:e --enable-core-dump --socket-mode 600 --socket-path @x --disable-extensions a,b,
		--cpuset-threads --enable-mutex-tracing --disable-hot-restart --mode validate --parent-shutdown-time-s 1 --drain-strategy immediate
		--drain-time-s 2 --file-flush-min-size-kb 3 --file-flush-interval-msec 4 --service-zone z --service-node n --service-cluster c
		--restart-epoch 5 --log-path /l --log-format-escaped --log-format %v --component-log-level upstream:debug -l trace
		--local-address-ip-version v6 --admin-address-path /a --log-stacktrace-single-entry --skip-deprecated-logs
		--ignore-unknown-dynamic-fields --reject-unknown-dynamic-fields --allow-unknown-static-fields --allow-unknown-fields --config-yaml {}
		-c /c --concurrency 0 --base-id-path /b --skip-hot-restart-parent-stats --skip-hot-restart-on-no-parent --base-id 6 --ignore_rest --nonsense`)...)
	if err != nil {
		t.Fatal(err)
	}
	want := &adminv3.CommandLineOptions{
		StatsTag: []string{"a:b", "c:d:e"}, EnableCoreDump: true, SocketMode: 0o600, SocketPath: "@x", DisabledExtensions: []string{"a", "b"},
		CpusetThreads: true, EnableMutexTracing: true, DisableHotRestart: true, Mode: adminv3.CommandLineOptions_Validate,
		ParentShutdownTime: durationpb.New(time.Second), DrainStrategy: adminv3.CommandLineOptions_Immediate, DrainTime: durationpb.New(2 * time.Second),
		FileFlushMinSize: 3, FileFlushInterval: durationpb.New(4 * time.Millisecond), ServiceZone: "z", ServiceNode: "n", ServiceCluster: "c",
		RestartEpoch: 5, LogPath: "/l", LogFormatEscaped: true, LogFormat: "%v", ComponentLogLevel: "upstream:debug", LogLevel: "trace",
		LocalAddressIpVersion: adminv3.CommandLineOptions_v6, AdminAddressPath: "/a", LogStacktraceSingleEntry: true, SkipDeprecatedLogs: true,
		IgnoreUnknownDynamicFields: true, RejectUnknownDynamicFields: true, AllowUnknownStaticFields: true, ConfigYaml: "{}", ConfigPath: "/c",
		Concurrency: 1, BaseIdPath: "/b", SkipHotRestartParentStats: true, SkipHotRestartOnNoParent: true, BaseId: 6,
	}
	if !proto.Equal(got.CommandLineOptions, want) {
		t.Errorf("got  %v\nwant %v", got.CommandLineOptions, want)
	}
	if got.Level != log.Trace || !got.LogFormatGiven || len(got.ComponentLevels) != 1 || got.ComponentLevels[0].Level != zapcore.DebugLevel {
		t.Errorf("got %+v", got)
	}
}

func TestDefaults(t *testing.T) {
	got, err := parse()
	if err != nil {
		t.Fatal(err)
	}
	want := &adminv3.CommandLineOptions{
		LogLevel: "info", LogFormat: "[%Y-%m-%d %T.%e][%t][%l][%n] [%g:%#] %v", SocketPath: "@envoy_domain_socket",
		FileFlushInterval: durationpb.New(10 * time.Second), FileFlushMinSize: 64, DrainTime: durationpb.New(600 * time.Second),
		ParentShutdownTime: durationpb.New(900 * time.Second),
	}
	if !proto.Equal(got.CommandLineOptions, want) || got.Level != zapcore.InfoLevel {
		t.Errorf("got %v", got)
	}
}

func TestEqualsSign(t *testing.T) {
	got, err := parse("--config-yaml=a=b", "--mode=init_only")
	if err != nil || got.ConfigYaml != "a=b" || got.Mode != adminv3.CommandLineOptions_InitOnly {
		t.Errorf("got %v, %v", got, err)
	}
}

// TestExits: what ends the process at once, as Envoy words it.
func TestExits(t *testing.T) {
	const notFound = "\n             Couldn't find match for argument\n\nBrief USAGE: \n   outrigger  [--stats-tag <string>] ... "
	for line, c := range map[string]struct {
		code   int
		prefix string
	}{
		"--version --bogus":                {0, "\noutrigger  version: 1/2\n\n"},
		"-h":                               {0, "\nUSAGE: \n\n   outrigger  [--stats-tag <string>] ... [--enable-core-dump]\n"},
		"--hot-restart-version":            {0, "disabled\n"},
		"--bogus":                          {1, "PARSE ERROR: Argument: --bogus" + notFound},
		"extra":                            {1, "PARSE ERROR: Argument: extra" + notFound},
		"-ca.yaml":                         {1, "PARSE ERROR: Argument: -ca.yaml" + notFound},
		"-c=a.yaml":                        {1, "PARSE ERROR: Argument: -c=a.yaml" + notFound},
		"--version=1":                      {1, "PARSE ERROR: Argument: --version=1" + notFound},
		"--conc 1":                         {1, "PARSE ERROR: Argument: --conc" + notFound},
		"-c":                               {1, "PARSE ERROR: Argument: -c (--config-path)\n             Missing a value for this argument!\n"},
		"-c a -c b":                        {1, "PARSE ERROR: Argument: -c (--config-path)\n             Argument already set!\n"},
		"--concurrency x":                  {1, "PARSE ERROR: Argument: (--concurrency)\n             Couldn't read argument value from string 'x'\n"},
		"--base-id 5000000000":             {1, "PARSE ERROR: Argument: (--base-id)\n             Couldn't read argument value from string '5000000000'\n"},
		"--mode bar --base-id 1.5":         {1, "PARSE ERROR: Argument: (--base-id)\n"},
		"--mode sing":                      {1, "error: unknown mode 'sing'\n"},
		"-l foo":                           {1, "error: invalid log level specified 'foo'\n"},
		"--component-log-level nope:debug": {1, "error: invalid component specified 'nope'\n"},
		"--drain-strategy foo":             {1, "error: unknown drain-strategy 'foo'\n"},
		"--local-address-ip-version v5":    {1, "error: unknown IP address version 'v5'\n"},
		"--stats-tag foo":                  {1, "error: misformatted stats-tag 'foo'\n"},
		"--stats-tag a.b:c":                {1, "error: misformatted stats-tag 'a.b:c' contains invalid char in 'a.b'\n"},
		"--stats-tag a:b.c":                {1, "error: misformatted stats-tag 'a:b.c' contains invalid char in 'b.c'\n"},
		"--stats-tag a:b --stats-tag a:c":  {1, "error: multiple values for the stats-tag 'a'\n"},
		"--socket-mode 999":                {1, "error: invalid socket-mode '999'\n"},
		"--restart-epoch 1 --use-dynamic-base-id":                          {1, "error: cannot use --restart-epoch=1 with --use-dynamic-base-id\n"},
		"--enable-fine-grain-logging --component-log-level upstream:debug": {1, "error: --component-log-level will not work with --enable-fine-grain-logging\n"},
	} {
		_, err := parse(strings.Fields(line)...)
		var exit *ExitError
		if !errors.As(err, &exit) || exit.Code != c.code || !strings.HasPrefix(exit.Text, c.prefix) {
			t.Errorf("%s: got %#v, want %q", line, err, c.prefix)
		}
	}
}

func TestUsageNamesEveryFlag(t *testing.T) {
	_, err := parse("--help")
	if err == nil {
		t.Fatal("no text")
	}
	for _, f := range flags() {
		if explained := strings.Contains(err.Error(), "\n   "+f.title()+"\n     "); explained == f.own {
			t.Errorf("%s: explained %v: Envoy's flags are, our own are not", f.name, explained)
		}
	}
	if strings.Contains(err.Error(), "last-good") {
		t.Error("the usage names a flag that Envoy does not have")
	}
	for line := range strings.Lines(err.Error()) {
		if len(line) > 76 {
			t.Errorf("%q is longer than 75 columns", line)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("-c\x00a\x00--mode\x00validate")
	f.Add("--stats-tag\x00a:b\x00--concurrency=-1")
	f.Add("--component-log-level\x00a:b,c")
	f.Fuzz(func(t *testing.T, line string) {
		o, err := parse(strings.Split(line, "\x00")...)
		var exit *ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Errorf("error %v is no Exit", err)
		}
		if err == nil && o == nil {
			t.Error("neither options nor an error")
		}
	})
}
