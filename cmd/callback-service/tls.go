package main

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"sync/atomic"

	"callback-service/internal/reload"
)

// watchPair calls use with the certificate and private key of two files, now and whenever they change.
// Errors name the flags.
func watchPair(files *reload.Files, log *slog.Logger, cert, key reload.File, use func(*tls.Certificate) error) error {
	return files.Watch(func(contents [][]byte) error {
		pair, err := tls.X509KeyPair(contents[0], contents[1])
		if err != nil {
			return fmt.Errorf("%s %s, %s %s: %w", cert.Flag, cert.Path, key.Flag, key.Path, err)
		}
		if err := use(&pair); err != nil {
			return err
		}
		log.Info("tls: a certificate is in use", "flag", cert.Flag, "file", cert.Path, "expires", pair.Leaf.NotAfter)
		return nil
	}, cert, key)
}

// listenerTLS is nil without --web-tls-cert.
func listenerTLS(cfg *config, files *reload.Files, log *slog.Logger) (*tls.Config, error) {
	if cfg.Web.TLSCert == "" {
		return nil, nil
	}
	var current atomic.Pointer[tls.Certificate]
	cert := reload.File{Flag: "--web-tls-cert", Path: cfg.Web.TLSCert}
	key := reload.File{Flag: "--web-tls-key", Path: cfg.Web.TLSKey}
	err := watchPair(files, log, cert, key, func(c *tls.Certificate) error {
		current.Store(c)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return current.Load(), nil },
	}, nil
}
