package auth

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"strconv"
	"strings"
	"time"

	"callback-service/internal/callback"
)

// tolerance is how far a signature's time may be from ours, before or after. Within it a request can be replayed.
const tolerance = 5 * time.Minute

// maxSignatures bounds what one request makes us compare. Senders give one signature for each of their live secrets: two, in a rotation.
const maxSignatures = 16

// The names of the schemes in the file.
const (
	schemeStandard = "standard-webhooks" // https://www.standardwebhooks.com, v1
	schemeGitHub   = "github"            // https://docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries
	schemeStripe   = "stripe"            // https://docs.stripe.com/webhooks#verify-manually
	schemeHMAC     = "hmac"              // hex HMAC-SHA256 of the body
)

// The headers that carry signatures, as net/http spells them.
const (
	headerStandard = "Webhook-Signature"
	headerSvix     = "Svix-Signature" // what Svix called it before there was a standard, and still does
	headerGitHub   = "X-Hub-Signature-256"
	headerStripe   = "Stripe-Signature"
	headerHMAC     = "X-Signature"
)

// schemeOrder is the order in which the schemes are tried: those that sign the time come first.
var schemeOrder = []string{schemeStandard, schemeStripe, schemeGitHub, schemeHMAC}

// schemeHeaders are the headers that carry the schemes' signatures. Plain HMAC may have another.
var schemeHeaders = map[string][]string{
	schemeStandard: {headerStandard, headerSvix},
	schemeStripe:   {headerStripe},
	schemeGitHub:   {headerGitHub},
	schemeHMAC:     {headerHMAC},
}

// scheme is a way to sign, with every secret that anybody signs with in this way. No scheme names its sender, so all of them are tried.
type scheme struct {
	header  string // canonical; that it is there says that the request is signed in this way
	parse   func(h http.Header, value string) (claim, *callback.Error)
	secrets []secret
}

type secret struct {
	key    []byte
	until  time.Time // from then on it is dead; zero: it is good for ever
	sender Sender
}

func (s secret) live(now time.Time) bool { return s.until.IsZero() || now.Before(s.until) }

// claim is what a request's headers say of its signature.
type claim struct {
	id        string // names the request; empty if the scheme signs no id
	prefix    string // signed in front of the body
	sums      [][]byte
	timestamp string // seconds since 1970; empty if the scheme signs no time
}

// schemeOf makes a scheme without secrets, whose signature is in header.
func schemeOf(name, header string) *scheme {
	s := &scheme{header: header}
	switch name {
	case schemeStandard:
		family := strings.TrimSuffix(header, "Signature") // id and time go by names of the same family
		s.parse = func(h http.Header, value string) (claim, *callback.Error) {
			return parseStandard(family, h.Get(family+"Id"), h.Get(family+"Timestamp"), value)
		}
	case schemeStripe:
		s.parse = parseStripe
	case schemeGitHub:
		s.parse = func(_ http.Header, value string) (claim, *callback.Error) {
			digits, ok := strings.CutPrefix(value, "sha256=")
			if !ok {
				return claim{}, unreadable(header, "sha256=<64 hex digits>")
			}
			return parseHex(header, digits)
		}
	default:
		s.parse = func(_ http.Header, value string) (claim, *callback.Error) {
			return parseHex(header, strings.TrimPrefix(value, "sha256="))
		}
	}
	return s
}

// verify finds out who signed. What can be refused by the headers alone is refused before the body is hashed once for each secret.
func (s *scheme) verify(h http.Header, body []byte, now time.Time) (Sender, *callback.Error) {
	claimed, err := s.parse(h, h.Get(s.header))
	if err != nil {
		return Sender{}, err
	}
	if claimed.timestamp != "" {
		if err := inTime(s.header, claimed.timestamp, now); err != nil {
			return Sender{}, err
		}
	}
	prefix := []byte(claimed.prefix)
	var sum [sha256.Size]byte
	for i := range s.secrets {
		if !s.secrets[i].live(now) {
			continue
		}
		mac := hmac.New(sha256.New, s.secrets[i].key)
		mac.Write(prefix)
		mac.Write(body)
		want := mac.Sum(sum[:0])
		for _, got := range claimed.sums {
			if hmac.Equal(got, want) {
				signer := s.secrets[i].sender
				signer.SignedID = claimed.id
				return signer, nil
			}
		}
	}
	return Sender{}, callback.Errorf(callback.Unauthenticated,
		"%s is not this body's signature under any secret that is in force; sign the bytes that are sent, with the current secret", s.header)
}

func inTime(header, timestamp string, now time.Time) *callback.Error {
	// Twelve digits reach the year 33658. Of time.Time's own bounds, where differences wrap, that stays clear.
	seconds, err := strconv.ParseUint(timestamp, 10, 64)
	if err != nil || len(timestamp) > 12 {
		return callback.Errorf(callback.Unauthenticated, "the time of %s is not a whole number of seconds since 1970", header)
	}
	off := now.Truncate(time.Second).Sub(time.Unix(int64(seconds), 0)) // in whole seconds, as timestamps are
	if off.Abs() <= tolerance {
		return nil
	}
	direction := "behind"
	if off < 0 {
		direction = "ahead of"
	}
	return callback.Errorf(callback.Unauthenticated, "the time of %s is %v %s this service's clock; at most %v",
		header, off.Abs(), direction, tolerance)
}

// parseStandard reads "v1,<base64> v1,<base64>". Signatures of other versions are for other receivers.
func parseStandard(family, id, timestamp, value string) (claim, *callback.Error) {
	if id == "" || timestamp == "" {
		return claim{}, callback.Errorf(callback.Unauthenticated,
			"%[1]ssignature must come with %[1]sid and %[1]stimestamp", strings.ToLower(family))
	}
	if strings.Contains(id, ".") { // else id and time could be cut elsewhere in what was signed: a time of the attacker's choice
		return claim{}, callback.Errorf(callback.Unauthenticated,
			"%sid must not contain a full stop: it separates what is signed", strings.ToLower(family))
	}
	c := claim{id: id, prefix: id + "." + timestamp + ".", timestamp: timestamp}
	for part := range strings.FieldsSeq(value) {
		version, signature, _ := strings.Cut(part, ",")
		if version != "v1" {
			continue
		}
		if sum, err := base64.StdEncoding.DecodeString(signature); err == nil && len(sum) == sha256.Size {
			c.sums = append(c.sums, sum)
		}
	}
	return c, countSums(family+"Signature", "v1,<base64 of 32 bytes>", c.sums)
}

// parseStripe reads "t=<seconds>,v1=<hex>,v1=<hex>,v0=…". Elements with other names are skipped, for Stripe may add some.
func parseStripe(_ http.Header, value string) (claim, *callback.Error) {
	const form = "t=<seconds>,v1=<64 hex digits>"
	var c claim
	for element := range strings.SplitSeq(value, ",") {
		name, content, _ := strings.Cut(strings.TrimSpace(element), "=")
		switch name {
		case "t":
			if c.timestamp != "" {
				return claim{}, unreadable(headerStripe, form)
			}
			c.timestamp = content
		case "v1":
			if sum, ok := hexSum(content); ok {
				c.sums = append(c.sums, sum)
			}
		}
	}
	if c.timestamp == "" {
		return claim{}, unreadable(headerStripe, form)
	}
	c.prefix = c.timestamp + "."
	return c, countSums(headerStripe, form, c.sums)
}

func parseHex(header, digits string) (claim, *callback.Error) {
	sum, ok := hexSum(digits)
	if !ok {
		return claim{}, unreadable(header, "<64 hex digits>")
	}
	return claim{sums: [][]byte{sum}}, nil
}

func hexSum(digits string) ([]byte, bool) {
	if len(digits) != hex.EncodedLen(sha256.Size) {
		return nil, false
	}
	sum, err := hex.DecodeString(digits)
	return sum, err == nil
}

func countSums(header, form string, sums [][]byte) *callback.Error {
	if len(sums) == 0 {
		return unreadable(header, form)
	}
	if len(sums) > maxSignatures {
		return callback.Errorf(callback.Unauthenticated, "%s has %d signatures; at most %d", header, len(sums), maxSignatures)
	}
	return nil
}

func unreadable(header, form string) *callback.Error {
	return callback.Errorf(callback.Unauthenticated, "%s cannot be read; want %s", header, form)
}
