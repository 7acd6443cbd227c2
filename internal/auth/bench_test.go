package auth

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"time"
)

// BenchmarkIdentify has 1,000 senders, each with a key and a secret. A key is found by its hash; a plain HMAC names nobody, and the last
// sender's secret is the last of 1,000 to be tried.
func BenchmarkIdentify(b *testing.B) {
	const senders = 1000
	var text strings.Builder
	text.WriteString("senders:\n")
	for i := range senders {
		fmt.Fprintf(&text, "  - {name: s%d, keys: [%q], signatures: [{scheme: hmac, secret: secret-%d}]}\n", i, HashKey(fmt.Sprintf("key-%d", i)), i)
	}
	text.WriteString("gateway: {trusted: [192.0.2.0/24]}\n") // where httptest's requests come from
	a := open(b, text.String(), time.Now())
	body := bytes.Repeat([]byte("x"), 1<<10)
	for _, c := range []struct {
		name, header, value string
		known               bool
	}{
		{"key", "Authorization", "Bearer key-999", true},
		{"unknown-key", "Authorization", "Bearer key-1000", false},
		{"gateway", "X-User-ID", "s999", true},
		{"hmac-1KiB-first", "X-Signature", hex.EncodeToString(sum("secret-0", string(body))), true},
		{"hmac-1KiB-last", "X-Signature", hex.EncodeToString(sum("secret-999", string(body))), true},
		{"hmac-1KiB-unknown", "X-Signature", zeros, false},
		{"hmac-unreadable", "X-Signature", "00", false},
	} {
		b.Run(c.name, func(b *testing.B) {
			r := request(c.header, c.value)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := a.Identify(r, body); (err == nil) != c.known {
					b.Fatal(err)
				}
			}
		})
	}
}
