package main

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"callback-service/internal/dispatch"
	"callback-service/internal/flags"
	"callback-service/internal/middleware"
)

// version is set by the linker: -ldflags "-X main.version=v1.2.3".
var version = "dev"

// maxRate is as good as no limit, and keeps arithmetic with it within bounds.
const maxRate = 1_000_000

// envPrefix makes a flag's variable: --object-ttl is CALLBACK_OBJECT_TTL.
const envPrefix = "CALLBACK"

// config are the flags and the environment variables.
type config struct {
	flags.Version
	Web struct {
		Address         string        `conf:"default:0.0.0.0:9090,help:public listener: callbacks and reads"`
		Debug           string        `conf:"default:127.0.0.1:6060,help:operator listener: pprof and metrics and health; keep it on loopback or set --web-debug-token"`
		DebugToken      string        `conf:"mask,help:bearer token of the operator listener or @ and the path of a file with it; required when that is not on loopback"`
		DebugPlain      bool          `conf:"help:keep the operator listener without TLS when --web-tls-cert is set; only on loopback"`
		ReadTimeout     time.Duration `conf:"default:5s,help:longest time for a request to arrive"`
		WriteTimeout    time.Duration `conf:"default:10s,help:longest time from a request's header to the end of its answer; keep it above 5s because an append to the inbox may wait that long"`
		ShutdownTimeout time.Duration `conf:"default:20s,help:longest time from SIGTERM to the exit"`
		TLSCert         string        `conf:"flag:web-tls-cert,env:WEB_TLS_CERT,help:PEM file with the certificate of both listeners and its chain; read again when it changes; empty: no TLS"`
		TLSKey          string        `conf:"flag:web-tls-key,env:WEB_TLS_KEY,help:PEM file with its private key"`
		MaxBody         int64         `conf:"default:1048576,help:bytes of a callback; above: 413"`
		MaxIDs          int           `conf:"flag:web-max-ids,env:WEB_MAX_IDS,default:1000,help:ids in a callback; above: 422"`
		MaxInFlight     int64         `conf:"default:4096,help:requests at once; above: 503 overloaded"`
		MaxConnections  int64         `conf:"default:8192,help:connections of the public listener at once and requests of them whose body is still arriving; above: those are closed first that are idle the longest"`
		Rate            float64       `conf:"default:0,help:callbacks a second of each sender; above: 429; 0: no limit"`
		Burst           int           `conf:"default:0,help:callbacks of a sender at once; 0: a second's worth"`
	}
	Auth struct {
		File string `conf:"help:YAML file of senders and their credentials; empty: everybody may post and read. Read again when it changes"`
	}
	Source struct {
		URL     string        `conf:"mask,help:the object source (http://localhost:9010 by default); objects are fetched from {url}/objects/{id}; or @ and the path of a file with it"`
		Timeout time.Duration `conf:"default:5s,help:longest time of one fetch"`
		MaxBody int64         `conf:"default:65536,help:bytes of an object; above it the fetch fails"`
		Header  string        `conf:"mask,help:a header for every fetch; such as Authorization: Bearer and a token; or @ and the path of a file with it"`
		CA      string        `conf:"help:file of PEM certificates to trust in place of the system's"`
		Cert    string        `conf:"help:PEM file with the certificate and its chain for a source that asks for one; read again when it changes"`
		Key     string        `conf:"help:PEM file with its private key"`
	}
	Inbox struct {
		URL       string        `conf:"default:file:data/inbox.db,help:the durable queue of accepted callbacks; one process a file"`
		MaxBytes  int64         `conf:"default:10737418240,help:size of the inbox; above: 503 inbox_full"`
		Dedupe    time.Duration `conf:"default:24h,help:an Idempotency-Key or webhook-id is remembered this long; 0: never"`
		DedupeMax int64         `conf:"default:1000000,help:keys remembered; above: the oldest are forgotten early"`
	}
	Pool struct {
		Workers     int `conf:"default:512,help:most fetches at once; fewer are in flight where more bring no more answers"`
		Window      int `conf:"default:65536,help:callbacks in memory and each of their ids; what is over it waits on disk"`
		MaxAttempts int `conf:"default:8,help:failed fetches of an id before it becomes a dead letter; they count only while the source answers others"`
	}
	Database struct {
		URL string `conf:"mask,help:sqlite:path (sqlite:data/objects.db by default) or postgres://user:password@host:5432/name or @ and the path of a file with it"`
	}
	Object struct {
		TTL  time.Duration `conf:"default:30s,help:an object is deleted this long after it was last stored"`
		Keep string        `conf:"default:all,help:all or online: which objects are stored"`
	}
	Receipt struct {
		TTL time.Duration `conf:"default:24h,help:a receipt is kept this long; 0: no receipts"`
	}
	Trace struct {
		URL         string  `conf:"mask,help:Zipkin's span API; for example http://localhost:9411/api/v2/spans; or @ and the path of a file with it; empty: no traces"`
		Service     string  `conf:"default:callback-service,help:name of this service in traces"`
		Probability float64 `conf:"default:1,help:share of traces that begin here and are sampled; 0 to 1"`
		Rate        float64 `conf:"default:100,help:traces a second at most; 0: no ceiling"`
	}
	Log struct {
		Level  string `conf:"default:info,help:debug or info or warn or error"`
		Format string `conf:"default:text,help:text or json"`
	}
}

// parse reads args and the environment. A help that is not empty is to be printed instead of running. Errors name the flag.
func parse(args []string) (cfg config, help string, err error) {
	cfg.Version = flags.Version{Build: version, Desc: "takes callbacks durably, fetches their objects, stores them for a while"}
	// conf masks the default of what is masked, and a --help without these defaults teaches little.
	cfg.Source.URL, cfg.Database.URL = "http://localhost:9010", "sqlite:data/objects.db"
	help, err = flags.Parse(envPrefix, &cfg, args)
	switch {
	case errors.Is(err, flags.ErrHelp):
		return cfg, help + commandHelp(), nil
	case errors.Is(err, flags.ErrVersion):
		return cfg, help + "\n", nil
	case err != nil:
		return cfg, "", err
	}
	return cfg, "", cfg.validate()
}

func (c *config) validate() error {
	for _, d := range []struct {
		flag  string
		value time.Duration
	}{
		{"--web-read-timeout", c.Web.ReadTimeout}, {"--web-write-timeout", c.Web.WriteTimeout},
		{"--web-shutdown-timeout", c.Web.ShutdownTimeout}, {"--source-timeout", c.Source.Timeout}, {"--object-ttl", c.Object.TTL},
	} {
		if d.value <= 0 {
			return fmt.Errorf("%s %v: want a duration above zero, like 30s", d.flag, d.value)
		}
	}
	for _, n := range []struct {
		flag        string
		value, most int64
	}{
		{"--web-max-body", c.Web.MaxBody, 1 << 30}, {"--web-max-ids", int64(c.Web.MaxIDs), 1 << 24},
		{"--web-max-in-flight", c.Web.MaxInFlight, 1 << 20}, {"--web-max-connections", c.Web.MaxConnections, 1 << 20},
		{"--source-max-body", c.Source.MaxBody, 1 << 30}, {"--inbox-max-bytes", c.Inbox.MaxBytes, math.MaxInt64},
		{"--inbox-dedupe-max", c.Inbox.DedupeMax, math.MaxInt64},
	} {
		if n.value < 1 {
			return fmt.Errorf("%s %d: want at least 1", n.flag, n.value)
		}
		if n.value > n.most {
			return fmt.Errorf("%s %d: want at most %d", n.flag, n.value, n.most)
		}
	}
	if c.Inbox.Dedupe < 0 {
		return fmt.Errorf("--inbox-dedupe %v: want a duration, or 0 to remember no keys", c.Inbox.Dedupe)
	}
	if c.Receipt.TTL < 0 {
		return fmt.Errorf("--receipt-ttl %v: want a duration, or 0 for no receipts", c.Receipt.TTL)
	}
	if p := c.Trace.Probability; !(p >= 0 && p <= 1) {
		return fmt.Errorf("--trace-probability %v: want 0 to 1", p)
	}
	if err := c.validateWeb(); err != nil {
		return err
	}
	if _, err := c.inboxPath(); err != nil {
		return err
	}
	return c.dispatch().Validate()
}

func (c *config) validateWeb() error {
	if rate := c.Web.Rate; !(rate >= 0 && rate <= maxRate) {
		return fmt.Errorf("--web-rate %v: want 0 to %d", rate, maxRate)
	}
	if burst := c.Web.Burst; burst < 0 || burst > maxRate {
		return fmt.Errorf("--web-burst %d: want 0 to %d", burst, maxRate)
	}
	for _, pair := range []struct{ flag, cert, key string }{
		{"--web-tls", c.Web.TLSCert, c.Web.TLSKey}, {"--source", c.Source.Cert, c.Source.Key},
	} {
		if pair.cert != "" && pair.key == "" {
			return fmt.Errorf("%s-cert needs %[1]s-key", pair.flag)
		}
		if pair.key != "" && pair.cert == "" {
			return fmt.Errorf("%s-key needs %[1]s-cert", pair.flag)
		}
	}
	if !(c.Trace.Rate >= 0) {
		return fmt.Errorf("--trace-rate %v: want traces a second, or 0 for no ceiling", c.Trace.Rate)
	}
	if c.Web.DebugPlain && !middleware.Loopback(c.Web.Debug) {
		return fmt.Errorf("--web-debug-plain: --web-debug %s is not on loopback, and its token would travel in clear", c.Web.Debug)
	}
	if c.Web.DebugToken == "" && !middleware.Loopback(c.Web.Debug) {
		return fmt.Errorf("--web-debug %s is not on loopback: set --web-debug-token, or listen on 127.0.0.1", c.Web.Debug)
	}
	return nil
}

func (c *config) inboxPath() (string, error) {
	path, ok := strings.CutPrefix(c.Inbox.URL, "file:")
	if !ok || path == "" {
		return "", fmt.Errorf("--inbox-url %q: want file:path", c.Inbox.URL)
	}
	return path, nil
}

// dispatch shares the shutdown timeout out: half of it for fetches in flight, a fifth for the last write, the rest for the inbox and traces.
func (c *config) dispatch() dispatch.Options {
	return dispatch.Options{
		Workers: c.Pool.Workers, Window: c.Pool.Window, MaxAttempts: c.Pool.MaxAttempts, Keep: dispatch.KeepPolicy(c.Object.Keep), ObjectTTL: c.Object.TTL,
		FetchGrace: c.Web.ShutdownTimeout / 2, Grace: c.Web.ShutdownTimeout * 7 / 10,
	}
}
