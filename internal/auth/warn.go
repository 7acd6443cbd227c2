package auth

import (
	"log/slog"
	"time"
)

// minSecret is the length in bytes under which a secret is warned of: 128 bits, were it random.
const minSecret = 16

// warning is about something in the file that can be used, but that somebody should look at. It
// shows no secret.
type warning struct {
	line   int
	sender string
	text   string
	since  time.Time // before that there is nothing to warn of; zero: always
}

func (b *builder) warnOf(shape signatureShape, key []byte, until time.Time, sender string) {
	if len(key) < minSecret {
		b.rules.warnings = append(b.rules.warnings, warning{
			line: shape.Secret.line, sender: sender, text: "the secret is shorter than 16 bytes; use 32 random ones",
		})
	}
	if !until.IsZero() {
		b.rules.warnings = append(b.rules.warnings, warning{
			line: shape.Until.line, sender: sender, since: until,
			text: "until is in the past: the secret is no longer accepted; remove it",
		})
	}
}

// warn logs what there is to warn of.
func (in *rules) warn(log *slog.Logger, now time.Time) {
	for _, w := range in.warnings {
		if !now.Before(w.since) {
			log.Warn("auth: a secret needs attention", "line", w.line, "sender", w.sender, "warning", w.text)
		}
	}
}
