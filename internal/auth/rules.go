package auth

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"net/netip"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"callback-service/internal/callback"
)

// maxName is the most bytes of a sender's name: it stands in every receipt.
const maxName = 128

// rules are what one reading of the file says.
type rules struct {
	senders map[string]Sender
	keys    map[[sha256.Size]byte]apiKey
	schemes []*scheme // in the order in which they are tried
	gateway *gateway  // nil: there is none
	ways    string    // the kinds of credentials there are, for who sends none of them

	warnings []warning // in the order of the file
}

type apiKey struct {
	hash   [sha256.Size]byte
	sender Sender
}

// gateway is a proxy that has already found out who the sender is.
type gateway struct {
	header  string // canonical
	trusted []netip.Prefix
}

// bearer is the API key of a request. It is none of ours if the rules have no keys: gateways pass on tokens that they have looked at themselves.
func (in *rules) bearer(h http.Header) (key string, ok bool) {
	if len(in.keys) == 0 {
		return "", false
	}
	const name = "Bearer " // the scheme is case-insensitive (RFC 9110, section 11.1)
	value := h.Get("Authorization")
	if len(value) < len(name) || !strings.EqualFold(value[:len(name)], name) {
		return "", false
	}
	return strings.TrimSpace(value[len(name):]), true
}

// byKey looks for the hash, not for the key. How long the map takes may tell of the hash's first bits, which nobody can choose without
// knowing a key; the comparison that decides takes the same time for every key, known or not.
func (in *rules) byKey(key string) (Sender, error) {
	sum := sha256.Sum256([]byte(key))
	found, known := in.keys[sum]
	if subtle.ConstantTimeCompare(found.hash[:], sum[:]) != 1 || !known {
		return Sender{}, callback.Errorf(callback.Unauthenticated, "the API key in Authorization is not known")
	}
	return found.sender, nil
}

// signed reports whether a header of some configured scheme is there.
func (in *rules) signed(h http.Header) bool {
	for _, s := range in.schemes {
		if len(h[s.header]) > 0 {
			return true
		}
	}
	return false
}

func (in *rules) bySignature(h http.Header, body []byte, now time.Time) (Sender, error) {
	var first *callback.Error // that of the scheme that the request most likely means
	for _, s := range in.schemes {
		if len(h[s.header]) == 0 {
			continue
		}
		sender, err := s.verify(h, body, now)
		if err == nil {
			return sender, nil
		}
		if first == nil {
			first = err
		}
	}
	return Sender{}, first
}

// byGateway believes the header if the connection comes from a trusted network. X-Forwarded-For plays no part: anybody can send it.
func (in *rules) byGateway(remote string, values []string) (Sender, error) {
	g := in.gateway
	if !g.trusts(remote) {
		return Sender{}, callback.Errorf(callback.Unauthenticated,
			"%s is believed only from the gateway's networks, and this connection comes from elsewhere", g.header)
	}
	if len(values) > 1 { // a gateway that adds its header beside the client's: which of them is whose?
		return Sender{}, callback.Errorf(callback.Unauthenticated, "%s must be sent once, not %d times", g.header, len(values))
	}
	name := strings.TrimSpace(values[0])
	if complaint := badName(name); complaint != "" {
		return Sender{}, callback.Errorf(callback.Unauthenticated, "%s %s", g.header, complaint)
	}
	sender, ok := in.senders[name]
	if !ok {
		sender = Sender{Name: strings.Clone(name), allow: everyRight} // a clone: it outlives the request's headers
	}
	sender.by = credential{header: g.header, remote: remote}
	return sender, nil
}

func (g *gateway) trusts(remote string) bool {
	peer, err := netip.ParseAddrPort(remote)
	if err != nil {
		return false
	}
	address := peer.Addr().Unmap().WithZone("") // a dual-stack listener shows IPv4 as ::ffff:a.b.c.d; no prefix contains an address with a zone
	for _, network := range g.trusted {
		if network.Contains(address) {
			return true
		}
	}
	return false
}

// badName says what is wrong with a sender's name; empty: nothing.
func badName(name string) string {
	switch {
	case name == "":
		return "is empty"
	case len(name) > maxName:
		return "is over 128 bytes"
	case !utf8.ValidString(name): // PostgreSQL would refuse it, long after the callback was accepted
		return "is not UTF-8"
	case strings.ContainsFunc(name, unicode.IsControl):
		return "has control characters"
	}
	return ""
}
