package main

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestPagesOfOtherSites: a web page can have a browser post anything to a service that asks for no
// credentials, but not without headers that say so (navigator.sendBeacon sends an untyped Blob
// without a Content-Type). Programs send none of them.
func TestPagesOfOtherSites(t *testing.T) {
	s := start(t, t.TempDir(), "--source-url="+newSource(t).URL)
	own := "http://" + strings.TrimPrefix(s.public, "http://")
	accepted := 0.0
	for _, c := range []struct {
		path   string
		status int
		code   string
		header []string
	}{
		{"/callback", 202, "", nil},
		{"/callback", 202, "", []string{"Origin", own, "Content-Type", "application/json"}},
		{"/v1/callbacks", 202, "", []string{"Origin", own, "Sec-Fetch-Site", "same-origin", "Content-Type", "application/json"}},
		{"/callback", 202, "", []string{"Sec-Fetch-Site", "none", "Content-Type", "application/json"}},

		{"/callback", 403, "forbidden", []string{"Origin", "https://elsewhere.example", "Content-Type", "application/json"}},
		{"/v1/callbacks", 403, "forbidden", []string{"Origin", "https://elsewhere.example", "Sec-Fetch-Site", "cross-site"}},
		{"/callback", 403, "forbidden", []string{"Sec-Fetch-Site", "same-site", "Content-Type", "application/json"}},
		{"/callback", 403, "forbidden", []string{"Origin", "null"}},
		{"/livez", 403, "forbidden", []string{"Sec-Fetch-Site", "cross-site"}}, // whatever is posted, wherever
		{"/nothing", 403, "forbidden", []string{"Sec-Fetch-Site", "cross-site"}},

		{"/callback", 415, "unsupported_media_type", []string{"Origin", own}},
		{"/v1/callbacks", 415, "unsupported_media_type", []string{"Sec-Fetch-Site", "same-origin"}},
		{"/callback", 415, "unsupported_media_type", []string{"Sec-Fetch-Site", "none"}},
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.public+c.path, strings.NewReader(`{"object_ids":[1]}`))
		require.NoError(t, err)
		for i := 0; i+1 < len(c.header); i += 2 {
			r.Header.Set(c.header[i], c.header[i+1])
		}
		response, err := client.Do(r)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		require.Equal(t, c.status, response.StatusCode, "%s %v", c.path, c.header)
		if c.status == http.StatusAccepted {
			accepted++
		} else {
			require.Equal(t, "application/problem+json", response.Header.Get("Content-Type"))
		}
	}
	require.Equal(t, accepted, s.metric("callback_accepted_total"))
	require.Positive(t, s.metric(`callback_rejected_total{code="forbidden"}`))
}
