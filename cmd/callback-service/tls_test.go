package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"callback-service/internal/reload"
)

// pair is a certificate for 127.0.0.1 in files.
type pair struct {
	t         *testing.T
	cert, key string
	trusted   *x509.CertPool // every certificate that write made
}

func newPair(t *testing.T) *pair {
	dir := t.TempDir()
	p := &pair{t: t, cert: filepath.Join(dir, "tls.crt"), key: filepath.Join(dir, "tls.key"), trusted: x509.NewCertPool()}
	p.write(1)
	return p
}

// write replaces both files. Each call gives them another time, for a test is faster than some clocks of file systems.
func (p *pair) write(serial int64) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(p.t, err)
	template := x509.Certificate{
		SerialNumber: big.NewInt(serial), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	require.NoError(p.t, err)
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(p.t, err)
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	p.trusted.AppendCertsFromPEM(certificate)
	p.put(p.cert, certificate, serial)
	p.put(p.key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), serial)
}

func (p *pair) put(file string, data []byte, version int64) {
	require.NoError(p.t, os.WriteFile(file, data, 0o600))
	modified := time.Unix(1_700_000_000+version, 0)
	require.NoError(p.t, os.Chtimes(file, modified, modified))
}

func (p *pair) dial(address string, config *tls.Config) (*tls.Conn, error) {
	config.RootCAs = p.trusted
	return tls.Dial("tcp", address, config)
}

// serial is that of the certificate which a new connection gets.
func (p *pair) serial(address string) int64 {
	conn, err := p.dial(address, &tls.Config{})
	require.NoError(p.t, err)
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
}

func TestTLS(t *testing.T) {
	p := newPair(t)
	s := start(t, t.TempDir(), "--web-tls-cert="+p.cert, "--web-tls-key="+p.key)
	address := strings.TrimPrefix(s.public, "http://")

	browser := &http.Client{Transport: &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: p.trusted}}}
	defer browser.CloseIdleConnections()
	r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, "https://"+address+"/callback", strings.NewReader(`{"object_ids":[1]}`))
	require.NoError(t, err)
	response, err := browser.Do(r)
	require.NoError(t, err)
	defer response.Body.Close()
	require.Equal(t, http.StatusAccepted, response.StatusCode)
	require.Equal(t, "HTTP/2.0", response.Proto)
	conn, _, err := websocket.Dial(context.Background(), "wss://"+address+"/v1/events", &websocket.DialOptions{HTTPClient: browser})
	require.NoError(t, err, "the live feed is for HTTP/1.1, beside HTTP/2")
	require.NoError(t, conn.Close(websocket.StatusNormalClosure, ""))

	_, err = p.dial(address, &tls.Config{MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10})
	require.ErrorContains(t, err, "protocol version")
	require.Equal(t, http.StatusBadRequest, get(s.public+"/livez", nil), "plain HTTP is told so")
	require.Equal(t, http.StatusBadRequest, get(s.operator+"/livez", nil), "also on the operator listener")

	old, err := p.dial(address, &tls.Config{})
	require.NoError(t, err)
	defer old.Close()
	answers := bufio.NewReader(old)
	alive := func() {
		_, err := io.WriteString(old, "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
		require.NoError(t, err)
		response, err := http.ReadResponse(answers, nil)
		require.NoError(t, err)
		defer response.Body.Close()
		_, err = io.ReadAll(response.Body)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, response.StatusCode)
	}
	alive()
	p.write(2)
	operator := strings.TrimPrefix(s.operator, "http://")
	for _, address := range []string{address, operator} {
		s.eventually("new connections get the new certificate", func() bool { return p.serial(address) == 2 })
	}
	alive()
	require.NoError(t, s.stop())
}

// TestCertificateReload: a pair of which only one file is new changes nothing, is logged once, and the
// next whole pair is taken.
func TestCertificateReload(t *testing.T) {
	own := make(chan os.Signal, 1) // starts the runtime's signal goroutine outside the bubble below
	signal.Notify(own, syscall.SIGHUP)
	defer signal.Stop(own)
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t)
		var log output
		var cfg config
		cfg.Web.TLSCert, cfg.Web.TLSKey = p.cert, p.key
		logger := slog.New(slog.NewTextHandler(&log, nil))
		files := reload.New(logger)
		config, err := listenerTLS(&cfg, files, logger)
		require.NoError(t, err)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- files.Run(ctx) }()
		expect := func(serial int64, errors int) {
			t.Helper()
			time.Sleep(5 * time.Second) // the files are polled meanwhile
			synctest.Wait()
			got, err := config.GetCertificate(nil)
			require.NoError(t, err)
			require.Equal(t, serial, got.Leaf.SerialNumber.Int64())
			require.Equal(t, errors, strings.Count(log.String(), "level=ERROR"), log.String())
		}
		expect(1, 0)
		whole, err := os.ReadFile(p.cert)
		require.NoError(t, err)
		p.write(2)
		expect(2, 0)
		p.put(p.cert, whole, 3) // the certificate of another key
		expect(2, 1)
		require.Contains(t, log.String(), "--web-tls-cert "+p.cert)
		p.write(4)
		expect(4, 1)
		stop()
		require.NoError(t, <-ended)
	})
}

// TestBadCertificate: each is one line that names the flag and the file, and status 1.
func TestBadCertificate(t *testing.T) {
	p, other := newPair(t), newPair(t)
	absent := filepath.Join(t.TempDir(), "absent")
	for _, c := range []struct{ cert, key, names string }{
		{absent, p.key, "--web-tls-cert " + absent},
		{p.cert, absent, "--web-tls-key " + absent},
		{p.cert, other.key, "--web-tls-key " + other.key},
		{p.key, p.key, "--web-tls-cert " + p.key},
	} {
		status, _, stderr := outcome(t, t.TempDir(), "--web-tls-cert="+c.cert, "--web-tls-key="+c.key)
		require.Equal(t, 1, status, stderr)
		require.Contains(t, stderr, c.names)
		require.Equal(t, 1, strings.Count(stderr, "\n"), stderr)
	}
	status, _, stderr := outcome(t, t.TempDir(), "--source-cert="+p.cert, "--source-key="+other.key, "--source-url=https://localhost")
	require.Equal(t, 1, status)
	require.Contains(t, stderr, "--source-key "+other.key)
	status, _, stderr = outcome(t, t.TempDir(), "--source-cert="+p.cert, "--source-key="+p.key, "--source-url=http://localhost")
	require.Equal(t, 1, status)
	require.Contains(t, stderr, "--source-cert: --source-url does not begin with https://")
}
