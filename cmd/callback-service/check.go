package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"callback-service/internal/callback"
	"callback-service/internal/flags"
	"callback-service/internal/inbox"
	"callback-service/internal/reload"
	"callback-service/internal/telemetry"
)

const checkAbout = `Usage: callback-service check [flags of the service]

Prints the settings in force, without secrets, and checks what the service needs: flags, environment, certificates, token, auth
file, the folder of the inbox, the database, and the source, of which it asks for object 0. It makes no file, changes no table
and may run beside the service. Exit status 1 when a check fails. For example:
  callback-service check --database-url=postgres://user:password@db:5432/callbacks

`

// checkup runs checks and prints a line for each.
type checkup struct {
	cfg   config
	args  []string
	files *reload.Files // read once, and never again
	log   *slog.Logger
	out   io.Writer

	done, failed int
}

// check does what the start does, as far as that leaves no trace.
func check(ctx context.Context, args []string, out io.Writer) error {
	cfg, help, err := parse(args)
	if help != "" {
		_, err := io.WriteString(out, checkAbout+help)
		return err
	}
	c := &checkup{cfg: cfg, args: args, out: out}
	c.run("flags", func() (string, error) {
		if err != nil {
			return "", err
		}
		level := new(slog.LevelVar)
		if c.log, err = newLogger(&cfg, level, out); err != nil {
			return "", err
		}
		level.Set(slog.LevelWarn) // what the parts have to say besides errors
		c.files = reload.New(c.log)
		c.settings()
		return "understood", nil
	})
	if c.failed > 0 {
		return errors.New("the flags are wrong; nothing else was checked")
	}
	c.run("environment", c.environment)
	c.run("memory", c.memory)
	c.run("certificates", c.certificates)
	c.run("token", c.token)
	c.run("auth file", c.authFile)
	c.run("traces", c.traces)
	c.run("inbox", c.inbox)
	c.run("database", func() (string, error) { return c.database(ctx) })
	c.run("source", func() (string, error) { return c.source(ctx) })
	if c.failed > 0 {
		return fmt.Errorf("%d of %d checks failed", c.failed, c.done)
	}
	return nil
}

// run does one check, which returns what it found.
func (c *checkup) run(name string, what func() (string, error)) {
	found, err := what()
	c.done++
	result := "ok"
	if err != nil {
		c.failed++
		result, found = "FAILED", flags.Describe(flags.All(envPrefix, &c.cfg), c.args, err)
	}
	fmt.Fprintf(c.out, "%-6s  %-12s  %s\n", result, name, strings.Join(strings.Fields(found), " "))
}

func (c *checkup) settings() {
	for _, f := range flags.All(envPrefix, &c.cfg) {
		fmt.Fprintf(c.out, "%s=%s\n", f.Name, shown(f))
	}
	fmt.Fprintln(c.out)
}

func (c *checkup) memory() (string, error) {
	limit, from := memoryLimit(&c.cfg)
	return fmt.Sprintf("at most about %d MiB, by %s; give the process a third more", limit>>20, from), nil
}

// shown is the value of a flag without what is secret in it.
func shown(f flags.Flag) string {
	const mask = "xxxxx"
	if !f.Secret || f.Value == "" || strings.HasPrefix(f.Value, "@") || strings.HasPrefix(f.Value, "sqlite:") {
		return f.Value // @ goes before the path of a file with a secret
	}
	u, err := url.Parse(f.Value)
	if err != nil || u.Host == "" {
		return mask
	}
	switch {
	case u.Scheme == "http" || u.Scheme == "https": // a name is a secret as much as a password
		if u.User != nil {
			u.User = url.User(mask)
		}
	case u.Scheme != "postgres" && u.Scheme != "postgresql":
		return mask
	}
	query := u.Query()
	for name := range query {
		if name != "sslmode" {
			query.Set(name, mask)
		}
	}
	u.RawQuery, u.Fragment = query.Encode(), ""
	return u.Redacted()
}

// environment fails for a variable that was probably meant to be another one. The start only warns
// of it.
func (c *checkup) environment() (string, error) {
	var typos []error
	others := []string{"no variable is mistyped"}
	for _, s := range flags.Strays(envPrefix, flags.All(envPrefix, &c.cfg)) {
		if len(s.Meant) > 0 {
			typos = append(typos, errors.New(s.String()))
		} else {
			others = append(others, s.String())
		}
	}
	return strings.Join(others, "; "), errors.Join(typos...)
}

func (c *checkup) certificates() (string, error) {
	config, err := listenerTLS(&c.cfg, c.files, c.log)
	if config == nil || err != nil {
		return "none: no TLS", err
	}
	certificate, err := config.GetCertificate(&tls.ClientHelloInfo{})
	if err != nil {
		return "", err
	}
	if until := certificate.Leaf.NotAfter; time.Now().After(until) {
		return "", fmt.Errorf("--web-tls-cert %s: it expired %s", c.cfg.Web.TLSCert, until.Format(time.RFC3339))
	}
	return "valid until " + certificate.Leaf.NotAfter.Format(time.RFC3339), nil
}

func (c *checkup) token() (string, error) {
	if _, err := operatorToken(&c.cfg, c.files, c.log); err != nil || c.cfg.Web.DebugToken != "" {
		return "the operator listener asks for it", err
	}
	return "none: the operator listener is on loopback", nil
}

func (c *checkup) authFile() (string, error) {
	if c.cfg.Auth.File == "" {
		return "none: anybody may post and read", nil
	}
	_, err := openAuth(&c.cfg, c.files, c.log)
	return c.cfg.Auth.File, err
}

func (c *checkup) traces() (string, error) {
	stop, err := startTracing(&c.cfg, c.files, c.log, telemetry.NewMetrics(nil, nil))
	if err != nil {
		return "", err
	}
	stop()
	if c.cfg.Trace.URL == "" {
		return "none are sent", nil
	}
	return "its URL is understood; the collector was not asked", nil
}

func (c *checkup) inbox() (string, error) {
	path, err := c.cfg.inboxPath()
	if err != nil {
		return "", err
	}
	dir, exists, err := writable(path)
	if err != nil {
		return "", fmt.Errorf("--inbox-url: %w", err)
	}
	free, err := inbox.Room(dir)
	if err != nil {
		return "", fmt.Errorf("--inbox-url: %w", err)
	}
	if !exists {
		return fmt.Sprintf("%s will be made; its disk has %d MiB free", path, free>>20), nil
	}
	s, err := inbox.Inspect(path)
	if errors.Is(err, inbox.ErrOlder) {
		return fmt.Sprintf("%s is of an earlier release: the start upgrades it, and earlier releases refuse it then; its disk has %d MiB free", path, free>>20), nil
	}
	if err != nil {
		return "", fmt.Errorf("--inbox-url: %w", err)
	}
	return fmt.Sprintf("%s: %d callbacks wait; its disk has %d MiB free", path, s.Callbacks, free>>20), nil
}

func (c *checkup) database(ctx context.Context) (string, error) {
	var dsn string
	err := watchSecret(c.files, c.log, "--database-url", c.cfg.Database.URL, func(value string) error {
		dsn = value
		return nil
	})
	if err != nil {
		return "", err
	}
	if path, ok := strings.CutPrefix(dsn, "sqlite:"); ok && path != "" {
		_, exists, err := writable(path)
		if err != nil {
			return "", fmt.Errorf("--database-url: %w", err)
		}
		if !exists {
			return path + " will be made", nil
		}
	}
	db, err := openStore(&c.cfg, c.files, c.log, telemetry.NewMetrics(nil, nil), reality())
	if err != nil {
		return "", err
	}
	defer closing(c.log, "database", db.Close)
	if err := db.Check(ctx); err != nil {
		return "", fmt.Errorf("--database-url: %w", err)
	}
	return db.Address() + " answers", nil
}

func (c *checkup) source(ctx context.Context) (string, error) {
	objects, err := openSource(&c.cfg, c.files, c.log, reality())
	if err != nil {
		return "", err
	}
	defer objects.Close()
	var failed *callback.FetchError
	if _, err = objects.Fetch(ctx, 0); errors.As(err, &failed) && failed.Reason != callback.ReasonThrottled {
		return "", fmt.Errorf("--source-url: asked for object 0: %w", err)
	}
	return "it answers", nil
}

// writable reports whether the file at path, and what belongs beside it, can be written, and
// whether it exists. dir is its folder, or the nearest one above that exists.
func writable(path string) (dir string, exists bool, err error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	switch {
	case err == nil:
		exists, err = true, file.Close()
	case errors.Is(err, os.ErrNotExist):
		err = nil
	}
	if err != nil {
		return "", exists, err
	}
	for dir = filepath.Dir(path); ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) || dir == filepath.Dir(dir) {
			break
		}
	}
	probe, err := os.CreateTemp(dir, ".check-")
	if err != nil {
		return "", exists, err
	}
	return dir, exists, errors.Join(probe.Close(), os.Remove(probe.Name()))
}
