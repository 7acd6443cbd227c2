package main

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"

	"callback-service/internal/middleware"
)

const (
	addressHelp = "the operator listener; without a scheme it is https:// when CALLBACK_WEB_TLS_CERT is set " +
		"and CALLBACK_WEB_DEBUG_PLAIN is not, else http://"
	caHelp = "file of PEM certificates that https:// addresses are checked by; without it the system's, " +
		"and on loopback no check"
)

// operatorAddress is the operator listener of the service in whose environment a command runs.
func operatorAddress() string { return cmp.Or(os.Getenv("CALLBACK_WEB_DEBUG"), "127.0.0.1:6060") }

// operatorURL completes an address of the operator listener that has no scheme. The environment is
// that of the service where both run in one container.
func operatorURL(address string) string {
	address = strings.TrimSuffix(address, "/")
	if strings.Contains(address, "://") {
		return address
	}
	host, port, err := net.SplitHostPort(address)
	if err == nil && (host == "" || net.ParseIP(host).IsUnspecified()) { // what the service listens on
		address = net.JoinHostPort("127.0.0.1", port)
	}
	plain, _ := strconv.ParseBool(os.Getenv("CALLBACK_WEB_DEBUG_PLAIN"))
	if plain || os.Getenv("CALLBACK_WEB_TLS_CERT") == "" {
		return "http://" + address
	}
	return "https://" + address
}

// operatorClient returns a client for the listener at base, which trusts the certificates of the file
// ca. Without ca, a certificate on loopback is not checked: it seldom names that host, and the listener
// is as trustworthy as one without TLS there.
func operatorClient(base, ca string) (*http.Client, error) {
	u, err := url.Parse(base)
	if err != nil {
		return nil, fmt.Errorf("--address: %w", err)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return nil, fmt.Errorf("--ca: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--ca %s: there is no PEM certificate in it", ca)
		}
	} else {
		config.InsecureSkipVerify = middleware.Loopback(u.Host)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = config
	return &http.Client{Transport: transport}, nil
}

// noAnswer is the error of a request that got none.
func noAnswer(base string, err error) error {
	var inURL *url.Error
	if errors.As(err, &inURL) { // it names the whole URL
		err = inURL.Err
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" { // it names the address again
		err = op.Err
	}
	return fmt.Errorf("no answer from %s: %w. Is the service running, and is that its operator listener (--address)?", base, err)
}
