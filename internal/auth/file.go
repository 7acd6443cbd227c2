package auth

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// The file as it is written. No error quotes a value of it but a sender's name, for a secret may stand in the wrong place.
type (
	fileShape struct {
		Senders []senderShape `yaml:"senders"`
		Gateway *gatewayShape `yaml:"gateway"`
	}
	senderShape struct {
		Name       string           `yaml:"name"`
		Allow      yaml.Node        `yaml:"allow"` // a node, to tell "allow:" with nothing in it, which must not mean everything
		Admin      bool             `yaml:"admin"`
		Keys       []string         `yaml:"keys"`
		Signatures []signatureShape `yaml:"signatures"`
	}
	signatureShape struct {
		Scheme string `yaml:"scheme"`
		Secret text   `yaml:"secret"`
		Header string `yaml:"header"`
		Until  text   `yaml:"until"` // a text, to take a quoted time as well
	}
	gatewayShape struct {
		Header  string   `yaml:"header"`
		Trusted []string `yaml:"trusted"`
	}
)

// builder turns the file's shape into rules, and knows which sender each secret belongs to.
type builder struct {
	rules   rules
	schemes map[string]*scheme // by name and header
	owners  map[string]string  // the sender's name by secret
}

// parse reads the rules. Errors name the sender and the field.
func parse(data []byte) (*rules, error) {
	shape, err := decode(data)
	if err != nil {
		return nil, err
	}
	if len(shape.Senders) == 0 && shape.Gateway == nil { // also what a file is while somebody writes it
		return nil, errors.New("it names no senders and no gateway: nobody could send")
	}
	b := builder{schemes: map[string]*scheme{}, owners: map[string]string{}}
	b.rules.senders = make(map[string]Sender, len(shape.Senders))
	b.rules.keys = map[[sha256.Size]byte]apiKey{}
	for i, s := range shape.Senders {
		if complaint := badName(s.Name); complaint != "" {
			return nil, fmt.Errorf("senders[%d]: name %s", i, complaint)
		}
		if err := b.add(s); err != nil {
			return nil, fmt.Errorf("sender %q: %w", s.Name, err)
		}
	}
	if b.rules.gateway, err = newGateway(shape.Gateway); err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	b.finish()
	return &b.rules, nil
}

func (b *builder) add(shape senderShape) error {
	if _, twice := b.rules.senders[shape.Name]; twice {
		return errors.New("name: there are two senders of this name")
	}
	if strings.TrimSpace(shape.Name) != shape.Name { // a gateway's header is trimmed, and would never name this one
		return errors.New("name: it begins or ends with a space")
	}
	allow, err := parseAllow(shape.Allow)
	if err != nil {
		return err
	}
	s := Sender{Name: shape.Name, Admin: shape.Admin, allow: allow}
	b.rules.senders[s.Name] = s
	for i, key := range shape.Keys {
		if err := b.addKey(key, s); err != nil {
			return fmt.Errorf("keys[%d]: %w", i, err)
		}
	}
	for i, signature := range shape.Signatures {
		if err := b.addSignature(signature, s); err != nil {
			return fmt.Errorf("signatures[%d]: %w", i, err)
		}
	}
	return nil
}

func parseAllow(node yaml.Node) (rights, error) {
	if node.IsZero() {
		return everyRight, nil
	}
	var names []Right
	if node.ShortTag() == "!!null" || node.Decode(&names) != nil {
		return 0, errors.New("allow: want a list of callback and read, for example [callback]")
	}
	var allow rights
	for i, name := range names {
		if name.bit() == 0 {
			return 0, fmt.Errorf("allow[%d]: want callback or read", i)
		}
		allow |= name.bit()
	}
	return allow, nil
}

func (b *builder) addKey(text string, s Sender) error {
	digits, ok := strings.CutPrefix(text, hashPrefix)
	sum, err := hex.DecodeString(digits)
	if !ok || err != nil || len(sum) != sha256.Size {
		return errors.New("want sha256: and 64 hex digits, which callback-service hash-key prints; the key itself does not belong here")
	}
	hash := [sha256.Size]byte(sum)
	if hash == sha256.Sum256(nil) {
		return errors.New("it is the hash of an empty key")
	}
	if other, twice := b.rules.keys[hash]; twice {
		return fmt.Errorf("sender %q has the same key", other.sender.Name)
	}
	s.by = credential{sum: hash}
	b.rules.keys[hash] = apiKey{hash: hash, sender: s}
	return nil
}

func (b *builder) addSignature(shape signatureShape, s Sender) error {
	headers, err := signatureHeaders(shape)
	if err != nil {
		return err
	}
	key, err := secretKey(shape)
	if err != nil {
		return fmt.Errorf("secret: %w", err)
	}
	if owner, taken := b.owners[string(key)]; taken && owner != s.Name { // whose signature would it be?
		return fmt.Errorf("secret: sender %q has the same one", owner)
	}
	b.owners[string(key)] = s.Name
	until, err := parseUntil(shape.Until.value)
	if err != nil {
		return err
	}
	b.warnOf(shape, key, until, s.Name)
	for _, header := range headers {
		id := shape.Scheme + " " + header
		if b.schemes[id] == nil {
			b.schemes[id] = schemeOf(shape.Scheme, header)
		}
		s.by = credential{sum: sha256.Sum256(key), header: b.schemes[id].header}
		b.schemes[id].secrets = append(b.schemes[id].secrets, secret{key: key, until: until, sender: s})
	}
	return nil
}

// signatureHeaders are the headers, in their canonical form, any of which carries a signature of
// this kind.
func signatureHeaders(shape signatureShape) ([]string, error) {
	if shape.Header != "" && shape.Scheme == schemeHMAC {
		header, err := canonical(shape.Header)
		return []string{header}, err
	}
	headers, known := schemeHeaders[shape.Scheme]
	switch {
	case !known:
		return nil, fmt.Errorf("scheme: want one of %s", strings.Join(schemeOrder, ", "))
	case shape.Header != "":
		return nil, errors.New("header: only scheme hmac takes one")
	}
	return headers, nil
}

// secretKey is the secret's bytes. Only Standard Webhooks encodes them; a Stripe secret begins with whsec_ too, and is used as it is.
func secretKey(shape signatureShape) ([]byte, error) {
	value := shape.Secret.value
	if value == "" {
		return nil, errors.New("it is empty")
	}
	if shape.Scheme != schemeStandard {
		return []byte(value), nil
	}
	encoded, ok := strings.CutPrefix(value, "whsec_")
	key, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(encoded, "=")) // some senders show it without the padding
	if !ok || err != nil || len(key) == 0 {
		return nil, errors.New("want whsec_ and the key in base64")
	}
	return key, nil
}

func parseUntil(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	until, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, errors.New("until: want a time such as 2027-01-01T00:00:00Z")
	}
	return until, nil
}

func newGateway(shape *gatewayShape) (*gateway, error) {
	if shape == nil {
		return nil, nil
	}
	g := &gateway{header: "X-User-Id"}
	if shape.Header != "" {
		var err error
		if g.header, err = canonical(shape.Header); err != nil {
			return nil, err
		}
	}
	for i, text := range shape.Trusted {
		network, err := netip.ParsePrefix(text)
		if err != nil || network.Addr().Is4In6() { // the latter would match nothing, for addresses are unmapped
			return nil, fmt.Errorf("trusted[%d]: want a network such as 10.0.0.0/8 or fd00::/8", i)
		}
		g.trusted = append(g.trusted, network.Masked())
	}
	if len(g.trusted) == 0 {
		return nil, errors.New("trusted: name the networks that its header is believed from")
	}
	return g, nil
}

// canonical is a header's name as net/http spells it.
func canonical(name string) (string, error) {
	token := func(r rune) bool { return r > ' ' && r < 0x7f && !strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r) }
	if strings.TrimFunc(name, token) != "" || strings.EqualFold(name, "Host") { // net/http takes Host out of the headers
		return "", errors.New("header: want the name of a request header")
	}
	return http.CanonicalHeaderKey(name), nil
}

// finish puts the schemes in order, and says which kinds of credentials there are.
func (b *builder) finish() {
	var ways []string
	if len(b.rules.keys) > 0 {
		ways = append(ways, "an API key (Authorization: Bearer …)")
	}
	for _, name := range schemeOrder {
		var same []*scheme
		for id, s := range b.schemes {
			if strings.HasPrefix(id, name+" ") {
				same = append(same, s)
			}
		}
		slices.SortFunc(same, func(x, y *scheme) int { return strings.Compare(x.header, y.header) })
		for _, s := range same {
			b.rules.schemes = append(b.rules.schemes, s)
			ways = append(ways, "a signature ("+s.header+")")
		}
	}
	if b.rules.gateway != nil {
		ways = append(ways, "a gateway's word")
	}
	b.rules.ways = strings.Join(ways, " or ")
}
