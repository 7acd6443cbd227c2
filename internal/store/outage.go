package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/ncruces/go-sqlite3"

	"callback-service/internal/callback"
)

// Down is an error of a database that cannot be reached, or that ended the connection. It is
// callback.ErrDatabaseDown.
type Down struct {
	Address string // host:port
	Reason  string // one line
	Err     error  // what pgx said: an error for each address and each way to connect, in several lines
}

func (d *Down) Error() string { return fmt.Sprintf("database %s: %s", d.Address, d.Reason) }

// Unwrap returns what pgx said.
func (d *Down) Unwrap() error { return d.Err }

// Is makes a Down a callback.ErrDatabaseDown.
func (d *Down) Is(target error) bool { return target == callback.ErrDatabaseDown }

// Hopeless reports whether err, of Migrate or Ping, says that the database's URL is wrong: a file
// that is no database, or a database that its server does not know.
//
// All else can heal while the service runs, and is worth repeating. A password is among it: it may
// be set on the server.
func Hopeless(err error) bool {
	var pg *pgconn.PgError
	return errors.Is(err, sqlite3.NOTADB) || errors.As(err, &pg) && pg.Code == "3D000"
}

// NoSuchHost reports whether err says that none of the URL's hosts has an address. That may be a
// typing error, or a database that is stopped together with its name, as a container is.
func NoSuchHost(err error) bool {
	var connect *pgconn.ConnectError
	if !errors.As(err, &connect) {
		return false
	}
	return !slices.ContainsFunc(causes(connect, ""), func(c cause) bool { return !c.noSuchHost })
}

// Address is where the database is: host:port, or the path of its file.
func (s *Store) Address() string { return s.address }

// addresses are the hosts of a URL, without repeats: pgx has an entry for each way to connect to
// one.
func addresses(config *pgx.ConnConfig) string {
	all := []string{hostPort(config.Host, config.Port)}
	for _, f := range config.Fallbacks {
		if a := hostPort(f.Host, f.Port); !slices.Contains(all, a) {
			all = append(all, a)
		}
	}
	return strings.Join(all, ",")
}

func hostPort(host string, port uint16) string { return net.JoinHostPort(host, fmt.Sprint(port)) }

// explained makes a Down of an error that means an outage. One that means that the file of h is damaged has it replaced.
func (s *Store) explained(h *handles, err error) error {
	if err == nil {
		return nil
	}
	if s.embedded {
		if (isDamage(err) || isEmptied(err)) && s.startReplacing(h, err) {
			return s.file.down("its file is damaged, and is replaced by a new one", err)
		}
		return err
	}
	if reason := outage(err); reason != "" {
		return &Down{Address: s.address, Reason: reason, Err: err}
	}
	return err
}

// outage is why the database cannot be reached, in one line; empty when err means something else. A
// deadline of an established connection does: the statement may have waited for a lock.
func outage(err error) string {
	var connect *pgconn.ConnectError
	if errors.As(err, &connect) {
		return summary(causes(connect, ""))
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		switch pg.Code[:min(3, len(pg.Code))] {
		case "57P": // shut down, crashed, starting up
			return pg.Message
		}
		return ""
	}
	var broken *net.OpError
	if errors.As(err, &broken) && !broken.Timeout() || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, pgconn.ErrConnClosed) {
		return summary(causes(err, ""))
	}
	return ""
}

// cause is one of the errors that pgx joins.
type cause struct {
	address, reason string
	noSuchHost      bool
}

// causes finds the errors at the leaves of what err wraps; address is where they happened, as far
// as it is known.
func causes(err error, address string) []cause {
	var dns *net.DNSError
	var errno syscall.Errno
	switch e := err.(type) { //nolint:errorlint // the tree is walked here
	case *pgconn.PgError:
		return []cause{{address: address, reason: fmt.Sprintf("%s (SQLSTATE %s)", e.Message, e.Code)}}
	case *net.OpError:
		if !errors.As(e, &dns) && e.Addr != nil {
			address = e.Addr.String()
		}
	case *net.DNSError:
		if e.IsNotFound {
			return []cause{{reason: fmt.Sprintf("no such host %q", e.Name), noSuchHost: true}}
		}
		return []cause{{reason: fmt.Sprintf("looking up %q: %s", e.Name, e.Err)}}
	case interface{ Unwrap() []error }:
		var all []cause
		for _, inner := range e.Unwrap() {
			all = append(all, causes(inner, address)...)
		}
		return all
	}
	if inner := errors.Unwrap(err); inner != nil {
		return causes(inner, address)
	}
	reason := err.Error()
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		reason = "no answer in time"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed), errors.As(err, &errno) && errno == syscall.ECONNRESET:
		reason = "it closed the connection"
	}
	return []cause{{address: address, reason: reason}}
}

// tlsRefused is what pgx says before it tries again without TLS, where the URL lets it.
const tlsRefused = "server refused TLS connection"

// summary is a line without repeats; addresses stand in it where their reasons differ.
func summary(all []cause) string {
	var reasons, lines []string
	for i, c := range all {
		if c.reason == tlsRefused && i < len(all)-1 {
			continue
		}
		line := c.reason
		if c.address != "" {
			line = c.address + ": " + c.reason
		}
		if !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
		if !slices.Contains(reasons, c.reason) {
			reasons = append(reasons, c.reason)
		}
	}
	if len(reasons) == 1 {
		return reasons[0]
	}
	return strings.Join(lines, "; ")
}
