package flags

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

type config struct {
	Version
	Web struct {
		Address     string `conf:"default:0.0.0.0:9090"`
		DebugToken  string `conf:"mask,help:the token"`
		MaxInFlight int64  `conf:"default:4096"`
		MaxIDs      int    `conf:"flag:web-max-ids,env:WEB_MAX_IDS,default:1000"`
	}
	Object struct {
		TTL time.Duration `conf:"default:30s"`
	}
	Receipt struct {
		TTL time.Duration `conf:"default:24h"`
	}
	Rate   float64
	Unique bool
	Online *float64
}

func TestParse(t *testing.T) {
	t.Setenv("SAMPLE_RATE", "2")
	t.Setenv("SAMPLE_OBJECT_TTL", "7s")
	var cfg config
	info, err := Parse("SAMPLE", &cfg, strings.Fields("--object-ttl 5s -web-max-in-flight=0x10 --unique --online=0"))
	require.NoError(t, err)
	require.Empty(t, info)
	assert.Equal(t, 5*time.Second, cfg.Object.TTL)
	assert.EqualValues(t, 16, cfg.Web.MaxInFlight)
	assert.True(t, cfg.Unique)
	assert.Zero(t, *cfg.Online)
	assert.InDelta(t, 2, cfg.Rate, 0)

	for arg, want := range map[string]error{"--help": ErrHelp, "-h": ErrHelp, "--version": ErrVersion} {
		info, err = Parse("SAMPLE", &config{Version: Version{Build: "1"}}, []string{"--object-ttl=x", arg})
		require.ErrorIs(t, err, want)
		require.NotEmpty(t, info)
	}
}

// Every flag has the name that conf gives it.
func TestAll(t *testing.T) {
	var cfg config
	usage, err := Parse("SAMPLE", &cfg, []string{"--help"})
	require.ErrorIs(t, err, ErrHelp)
	all := All("SAMPLE", &cfg)
	require.Len(t, all, 9)
	for _, f := range all {
		assert.Contains(t, usage, " "+f.Name+" ")
		assert.Contains(t, usage, " "+f.Variable+" ")
		assert.Equal(t, f.Name == "--web-debug-token", f.Secret, f.Name)
	}
	_, err = Parse("SAMPLE", &cfg, nil)
	require.NoError(t, err)
	assert.Equal(t, "30s", All("SAMPLE", &cfg)[4].Value)
	assert.Empty(t, All("SAMPLE", &cfg)[8].Value, "unset")
}

func TestWhatIsWrong(t *testing.T) {
	for _, c := range []struct{ args, env, want string }{
		{"--object-ttl=abc", "", `--object-ttl "abc": want a duration with its unit, such as 500ms, 30s or 1h30m (variable: SAMPLE_OBJECT_TTL)`},
		{"--object-ttl=30", "", `--object-ttl "30": want a duration with its unit`},
		{"", "SAMPLE_OBJECT_TTL=abc", `--object-ttl "abc": want a duration with its unit, such as 500ms, 30s or 1h30m (set by SAMPLE_OBJECT_TTL)`},
		{"--object-ttl=5s", "SAMPLE_OBJECT_TTL=abc", `--object-ttl "abc": want a duration with its unit, such as 500ms, 30s or 1h30m (set by SAMPLE_OBJECT_TTL)`},
		{"--web-max-ids=1.5", "", `--web-max-ids "1.5": want a whole number (variable: SAMPLE_WEB_MAX_IDS)`},
		{"--web-max-ids=99999999999999999999", "", `want a number that is nearer to zero`},
		{"--rate=fast", "", `--rate "fast": want a number (variable: SAMPLE_RATE)`},
		{"--unique=maybe", "", `--unique "maybe": want true or false (variable: SAMPLE_UNIQUE)`},
		{"--online=x", "", `--online "x": want a number (variable: SAMPLE_ONLINE)`},
		{"--objct-ttl=5s", "", `there is no flag --objct-ttl: did you mean --object-ttl? (see --help)`},
		{"--object_tll=5s", "", `did you mean --object-ttl?`},
		{"-ObjectTTL=5s", "", `there is no flag -ObjectTTL: did you mean --object-ttl?`},
		{"--ttl=5s", "", `did you mean --object-ttl or --receipt-ttl?`},
		{"--web=5s", "", `there is no flag --web (see --help)`}, // four begin with it
		{"--port=5", "", `there is no flag --port (see --help)`},
		{"--object-ttl", "", `--object-ttl has no value: want --object-ttl=…`},
		{"--rate --unique", "", `--rate has no value`},
		{"--web-debug-token my secret", "", `unexpected argument after --web-debug-token`},
		{"stray --rate=5", "", `unexpected argument after the program's name`},
	} {
		t.Run(c.args+" "+c.env, func(t *testing.T) {
			if name, value, ok := strings.Cut(c.env, "="); ok {
				t.Setenv(name, value)
			}
			args := strings.Fields(c.args)
			_, err := Parse("SAMPLE", &config{}, args)
			require.Error(t, err)
			text := Describe(All("SAMPLE", &config{}), args, err)
			assert.Contains(t, text, c.want)
			assert.NotContains(t, text, "secret")
		})
	}
}

func TestDescribe(t *testing.T) {
	t.Setenv("SAMPLE_WEB_ADDRESS", "nowhere")
	all := All("SAMPLE", &config{})
	for _, c := range []struct{ args, text, want string }{
		{"", "--rate -1: want 0", "--rate -1: want 0 (variable: SAMPLE_RATE)"},
		{"", "--web-address nowhere: no port", "--web-address nowhere: no port (set by SAMPLE_WEB_ADDRESS)"},
		{"--web-address=nowhere", "--web-address nowhere: no port", "--web-address nowhere: no port (variable: SAMPLE_WEB_ADDRESS)"},
		{"-web-address nowhere", "--web-address nowhere: no port", "--web-address nowhere: no port (variable: SAMPLE_WEB_ADDRESS)"},
		{"", "the disk is full", "the disk is full"},
		{"", "there is no flag --rat: did you mean --rate?", "there is no flag --rat: did you mean --rate?"},
		{"", "--limit 0: want 1", "--limit 0: want 1"},
	} {
		assert.Equal(t, c.want, Describe(all, strings.Fields(c.args), errors.New(c.text)))
	}
}

func TestStrays(t *testing.T) {
	for _, variable := range []string{
		"SAMPLE_OBJECT_TLL=5s", "SAMPLE_TTL=5s", "SAMPLE_OPERATOR_TOKEN=x", "SAMPLE_WEB_PORT=8080", "SAMPLE_OBJECT_TTL=5s", "SAMPLES=1",
		// What Kubernetes sets for Services with the names test and test-web.
		"SAMPLE_SERVICE_HOST=10.0.0.1", "SAMPLE_SERVICE_PORT=9090", "SAMPLE_SERVICE_PORT_HTTP=9090", "SAMPLE_PORT=tcp://10.0.0.1:9090",
		"SAMPLE_PORT_9090_TCP=tcp://10.0.0.1:9090", "SAMPLE_PORT_9090_TCP_PROTO=tcp", "SAMPLE_PORT_9090_TCP_PORT=9090", "SAMPLE_PORT_9090_TCP_ADDR=10.0.0.1",
		"SAMPLE_WEB_SERVICE_HOST=10.0.0.2", "SAMPLE_WEB_SERVICE_PORT=80", "SAMPLE_WEB_PORT_80_UDP_ADDR=10.0.0.2",
	} {
		name, value, _ := strings.Cut(variable, "=")
		t.Setenv(name, value)
	}
	var got []string
	for _, s := range Strays("SAMPLE", All("SAMPLE", &config{})) {
		got = append(got, fmt.Sprint(s))
	}
	assert.Equal(t, []string{
		"SAMPLE_OBJECT_TLL is set, but there is no such setting: did you mean SAMPLE_OBJECT_TTL?",
		"SAMPLE_OPERATOR_TOKEN is set, but there is no such setting",
		"SAMPLE_TTL is set, but there is no such setting: did you mean SAMPLE_OBJECT_TTL or SAMPLE_RECEIPT_TTL?",
		"SAMPLE_WEB_PORT is set, but there is no such setting",
	}, got)
}
