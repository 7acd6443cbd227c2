// Package auth says who sent a request: by an API key, by a signature, or on the word of a gateway. The rules are one YAML file, --auth-file,
// and may change while requests are served.
package auth

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"callback-service/internal/callback"
)

// Right is something that a sender may be allowed to do.
type Right string

// The rights that a sender's allow names; both are the default.
const (
	RightCallback Right = "callback" // post callbacks
	RightRead     Right = "read"     // read objects, and the receipts of its own callbacks
)

// rights is a set of Rights.
type rights uint8

const everyRight = rights(1<<2 - 1)

// bit is r as a set of one, or the empty set if there is no such right.
func (r Right) bit() rights {
	switch r {
	case RightCallback:
		return 1
	case RightRead:
		return 2
	}
	return 0
}

// Sender is who sends a request. The zero Sender may do nothing.
type Sender struct {
	Name  string
	Admin bool // reads every sender's receipts, if it may read
	allow rights
	by    credential

	// SignedID is the webhook-id that this request's signature covers; empty if it covers none.
	SignedID string
}

// credential is what a sender was identified by. The zero credential is none.
type credential struct {
	sum    [sha256.Size]byte // of an API key, or of the secret of a signature
	header string            // that carried the signature or the gateway's word
	remote string            // the gateway's address
}

// covers reports whether s is the sender that other is, by the same credential, and may do as much.
func (s Sender) covers(other Sender) bool {
	return s.Name == other.Name && s.by == other.by && (s.Admin || !other.Admin) && other.allow&^s.allow == 0
}

// May reports whether the sender has right.
func (s Sender) May(right Right) bool { return s.allow&right.bit() != 0 }

type senderKey struct{}

// WithSender puts the request's sender into its context.
func WithSender(ctx context.Context, s Sender) context.Context {
	return context.WithValue(ctx, senderKey{}, s)
}

// FromContext is the request's sender; false where nobody asked who it is.
func FromContext(ctx context.Context) (Sender, bool) {
	s, ok := ctx.Value(senderKey{}).(Sender)
	return s, ok
}

const hashPrefix = "sha256:"

// HashKey is how a bearer key stands in the file: "sha256:" and the hex SHA-256 of its bytes. One round without salt is enough for a random
// key, which nobody can guess, and not for a password that somebody made up.
func HashKey(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hashPrefix + hex.EncodeToString(sum[:])
}

// Authenticator holds the rules in force. It may be used from any goroutine.
type Authenticator struct {
	log   *slog.Logger
	now   func() time.Time
	rules atomic.Pointer[rules] // what it points to never changes: each request sees the old rules or the new ones, never a mixture
}

// New returns an Authenticator without rules. Load must succeed once before anything else is called.
func New(log *slog.Logger) *Authenticator { return &Authenticator{log: log, now: time.Now} }

// Load puts the rules of an auth file in force. Requests that are under way keep the rules that they
// began with. After an error the old rules stay in force. Errors name the sender and the field, and
// show no secret.
func (a *Authenticator) Load(data []byte) error {
	in, err := parse(data)
	if err != nil {
		return err
	}
	a.rules.Store(in)
	a.log.Info("auth: rules are in force", "senders", len(in.senders), "keys", len(in.keys))
	in.warn(a.log, a.now())
	return nil
}

// Identify says who sent r. body is the raw body of a signed request, see Signed, and nil where there is none; r.Body is not read.
//
// Of the kinds of credentials that the rules know, the first that r carries decides: an API key, then signatures, then the gateway's header.
// A wrong key is not made good by what comes after it; of several signatures one that is right is enough.
//
// Errors are *callback.Error with Unauthenticated. Their detail helps a sender to find its mistake, and says nothing of who the senders are.
func (a *Authenticator) Identify(r *http.Request, body []byte) (Sender, error) {
	in := a.rules.Load()
	if key, ok := in.bearer(r.Header); ok {
		return in.byKey(key)
	}
	if in.signed(r.Header) {
		return in.bySignature(r.Header, body, a.now())
	}
	if in.gateway != nil {
		if values := r.Header[in.gateway.header]; len(values) > 0 {
			return in.byGateway(r.RemoteAddr, values)
		}
	}
	return Sender{}, callback.Errorf(callback.Unauthenticated, "the request carries no credentials; this service takes %s", in.ways)
}

// Holds reports whether the credential that s was identified by is still in force, and s may still do
// what it might then. It is for what lives longer than a request.
func (a *Authenticator) Holds(s Sender) bool {
	in, now := a.rules.Load(), a.now()
	if key, ok := in.keys[s.by.sum]; ok && key.sender.covers(s) {
		return true
	}
	for _, scheme := range in.schemes {
		if slices.ContainsFunc(scheme.secrets, func(x secret) bool { return x.live(now) && x.sender.covers(s) }) {
			return true
		}
	}
	if in.gateway == nil {
		return false
	}
	again, err := in.byGateway(s.by.remote, []string{s.Name})
	return err == nil && again.covers(s)
}

// Signed reports whether it is a signature that decides who sent r, and so whether Identify needs the body.
func (a *Authenticator) Signed(r *http.Request) bool {
	in := a.rules.Load()
	if _, ok := in.bearer(r.Header); ok {
		return false
	}
	return in.signed(r.Header)
}
