package traffic

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Credentials say to the service who sends. The zero value says nothing.
type Credentials struct {
	// Header goes with every request: an API key, or a gateway's header. May be nil.
	Header http.Header
	// Sign is how requests are signed: standard-webhooks, github, stripe or hmac; empty: not at all.
	Sign string
	// Secret is the sender's, as the service's file of senders has it.
	Secret string
	// SignHeader carries the signature of hmac.
	SignHeader string
	// Keys gives each callback an Idempotency-Key, which its repeats have as well.
	Keys bool
}

// Validate names the flag that is wrong.
func (c Credentials) Validate() error {
	switch c.Sign {
	case "":
		return nil
	case "standard-webhooks":
		if _, err := c.key(); err != nil {
			return errors.New("--sign-secret: standard-webhooks wants whsec_ and base64")
		}
	case "hmac":
		if c.SignHeader == "" {
			return errors.New("--sign-header: hmac needs the name of its header")
		}
	case "github", "stripe":
	default:
		return fmt.Errorf("--sign is standard-webhooks, github, stripe or hmac, not %q", c.Sign)
	}
	if c.Secret == "" {
		return errors.New("--sign-secret is needed to sign")
	}
	return nil
}

func (c Credentials) key() ([]byte, error) {
	if c.Sign != "standard-webhooks" {
		return []byte(c.Secret), nil
	}
	encoded, ok := strings.CutPrefix(c.Secret, "whsec_")
	if !ok {
		return nil, errors.New("no whsec_")
	}
	return base64.StdEncoding.DecodeString(encoded)
}

// newKey names a callback; Standard Webhooks needs a name for each request anyway.
func (c Credentials) newKey() string {
	if c.Keys || c.Sign == "standard-webhooks" {
		return rand.Text()
	}
	return ""
}

// apply puts the credentials on a request with this body. name is what newKey gave.
func (c Credentials) apply(r *http.Request, body []byte, name string) {
	for k, v := range c.Header {
		r.Header[k] = v
	}
	if c.Keys && name != "" {
		r.Header.Set("Idempotency-Key", name)
	}
	now := strconv.FormatInt(time.Now().Unix(), 10)
	switch c.Sign {
	case "standard-webhooks": // https://www.standardwebhooks.com
		if name == "" {
			name = rand.Text()
		}
		r.Header.Set("Webhook-Id", name)
		r.Header.Set("Webhook-Timestamp", now)
		r.Header.Set("Webhook-Signature", "v1,"+base64.StdEncoding.EncodeToString(c.sum(name, ".", now, ".", string(body))))
	case "github":
		r.Header.Set("X-Hub-Signature-256", "sha256="+hex.EncodeToString(c.sum(string(body))))
	case "stripe":
		r.Header.Set("Stripe-Signature", "t="+now+",v1="+hex.EncodeToString(c.sum(now, ".", string(body))))
	case "hmac":
		r.Header.Set(c.SignHeader, hex.EncodeToString(c.sum(string(body))))
	}
}

func (c Credentials) sum(parts ...string) []byte {
	key, _ := c.key() // Validate has seen it
	mac := hmac.New(sha256.New, key)
	for _, p := range parts {
		mac.Write([]byte(p))
	}
	return mac.Sum(nil)
}
