package source

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestRenewHeader: new fetches carry the new header, and a bad one changes nothing.
func TestRenewHeader(t *testing.T) {
	var got http.Header
	connections := map[string]bool{}
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got = r.Header
		connections[r.RemoteAddr] = true
		_, _ = io.WriteString(w, `{"id":1,"online":true}`)
	})
	o := patient
	o.URL, o.Header = url, "X-Key: one"
	c, err := New(o)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	fetch := func() {
		t.Helper()
		_, err := c.Fetch(t.Context(), 1)
		require.NoError(t, err)
	}
	fetch()
	require.Equal(t, "one", got.Get("X-Key"))

	o.Header = "X-Key: two"
	require.NoError(t, c.Renew(o))
	fetch()
	require.Equal(t, []string{"two"}, got.Values("X-Key"))
	require.Len(t, connections, 1, "a header needs no new connection")

	bad := o
	bad.Header = "nonsense hunter2"
	err = c.Renew(bad)
	require.ErrorContains(t, err, "--source-header: want")
	require.NotContains(t, err.Error(), "hunter2")
	bad = o
	bad.URL = url + "/elsewhere"
	require.ErrorContains(t, c.Renew(bad), "--source-url: only its user and password may change")
	fetch()
	require.Equal(t, "two", got.Get("X-Key"))

	o.URL = "http://user:hunter2@" + url[len("http://"):]
	require.NoError(t, c.Renew(o))
	fetch()
	require.Equal(t, "Basic dXNlcjpodW50ZXIy", got.Get("Authorization"))
}

// newCertificate is of a client, and signed by itself.
func newCertificate(t *testing.T, serial int64) *tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := x509.Certificate{
		SerialNumber: big.NewInt(serial), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	require.NoError(t, err)
	leaf, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// TestRenewCertificate: the source sees the certificate, and new fetches show the new one, also where
// one connection of HTTP/2 would serve them all.
func TestRenewCertificate(t *testing.T) {
	one, two := newCertificate(t, 1), newCertificate(t, 2)
	for name, http2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			var serial int64
			url, ca := secure(t, func(w http.ResponseWriter, r *http.Request) {
				serial = r.TLS.PeerCertificates[0].SerialNumber.Int64()
				_, _ = io.WriteString(w, `{"id":1,"online":true}`)
			}, func(s *httptest.Server) {
				s.EnableHTTP2 = http2
				s.TLS = &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
				s.TLS.ClientCAs.AddCert(one.Leaf)
				s.TLS.ClientCAs.AddCert(two.Leaf)
			})
			o := patient
			o.URL, o.CAFile = url, ca
			c, err := New(o)
			require.NoError(t, err)
			t.Cleanup(func() { c.Close() })
			_, err = c.Fetch(t.Context(), 1)
			require.Error(t, err, "it asks for a certificate")
			for _, certificate := range []*tls.Certificate{one, two} {
				o.Certificate = certificate
				require.NoError(t, c.Renew(o))
				for range 2 {
					_, err = c.Fetch(t.Context(), 1)
					require.NoError(t, err)
					require.Equal(t, certificate.Leaf.SerialNumber.Int64(), serial)
				}
			}
		})
	}
}

// TestCertificateWithoutTLS: nobody would ever ask for it.
func TestCertificateWithoutTLS(t *testing.T) {
	o := patient
	o.URL, o.Certificate = "http://localhost", newCertificate(t, 1)
	_, err := New(o)
	require.ErrorContains(t, err, "--source-cert")
}
