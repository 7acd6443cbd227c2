package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"
)

// recheck is how often at most the files of the certificate are looked at.
const recheck = time.Second

// certificate is the one of --web-tls-cert and --web-tls-key, read again when the files change.
type certificate struct {
	certFile, keyFile string
	log               *slog.Logger

	mu      sync.Mutex
	current *tls.Certificate
	seen    [2]stamp // of the files that were tried last
	checked time.Time
}

// stamp tells one version of a file from another; zero for a file that cannot be seen.
type stamp struct {
	modified time.Time
	size     int64
}

func stampOf(path string) stamp {
	info, err := os.Stat(path)
	if err != nil {
		return stamp{}
	}
	return stamp{info.ModTime(), info.Size()}
}

// tlsConfig is nil without --web-tls-cert. Errors name the flag.
func tlsConfig(cfg *config, log *slog.Logger) (*tls.Config, error) {
	if cfg.Web.TLSCert == "" {
		return nil, nil
	}
	c := &certificate{certFile: cfg.Web.TLSCert, keyFile: cfg.Web.TLSKey, log: log, checked: time.Now()}
	c.seen = c.stamps()
	var err error
	if c.current, err = c.load(); err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.get}, nil
}

// get is for tls.Config. A pair that is broken, or half replaced, leaves the old one in use; that is logged once for each state of the files.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if now.Sub(c.checked) < recheck {
		return c.current, nil
	}
	c.checked = now
	stamps := c.stamps() // before the files are read: a change in between is then seen at the next check
	if stamps == c.seen {
		return c.current, nil
	}
	c.seen = stamps
	fresh, err := c.load()
	if err != nil {
		c.log.Error("tls: the new certificate cannot be used; the old one stays", "error", err)
		return c.current, nil
	}
	c.current = fresh
	c.log.Info("tls: a new certificate is in use", "expires", fresh.Leaf.NotAfter)
	return c.current, nil
}

func (c *certificate) stamps() [2]stamp { return [2]stamp{stampOf(c.certFile), stampOf(c.keyFile)} }

func (c *certificate) load() (*tls.Certificate, error) {
	cert, err := readPEM("--web-tls-cert", c.certFile)
	if err != nil {
		return nil, err
	}
	key, err := readPEM("--web-tls-key", c.keyFile)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("--web-tls-cert %s, --web-tls-key %s: %w", c.certFile, c.keyFile, err)
	}
	return &pair, nil
}

func readPEM(flag, path string) ([]byte, error) {
	data, err := os.ReadFile(path)
	var p *fs.PathError
	if errors.As(err, &p) { // the path is named already
		err = p.Err
	}
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", flag, path, err)
	}
	return data, nil
}
