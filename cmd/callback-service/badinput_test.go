package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	wide "encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/stretchr/testify/require"
)

const plainBody = `{"object_ids":[]}`

// sturdy is a service that has to come out of a test as it went in: alive, with the goroutines that it had, and without a panic.
func sturdy(t *testing.T, args ...string) *service {
	t.Helper()
	s := start(t, t.TempDir(), append(args, "--source-url="+newSource(t).URL)...)
	s.done(s.mustPost(1)) // now everything has started that starts when it is needed
	before := s.goroutines()
	t.Cleanup(func() {
		require.Equal(t, http.StatusOK, get(s.public+"/livez", nil))
		require.Zero(t, s.metric("callback_panics_total"))
		s.eventually("its goroutines are gone", func() bool { return s.goroutines() <= before })
	})
	return s
}

// goroutines is the number of the service's goroutines, without those of our own idle connections.
func (s *service) goroutines() (n int) {
	s.t.Helper()
	client.CloseIdleConnections()
	response, err := client.Get(s.operator + "/debug/pprof/goroutine?debug=1")
	require.NoError(s.t, err)
	defer response.Body.Close()
	_, err = fmt.Fscanf(response.Body, "goroutine profile: total %d", &n)
	require.NoError(s.t, err)
	return n
}

func (s *service) dial() *net.TCPConn {
	s.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.public, "http://"))
	require.NoError(s.t, err)
	s.t.Cleanup(func() { _ = conn.Close() })
	require.NoError(s.t, conn.SetDeadline(time.Now().Add(patience)))
	return conn.(*net.TCPConn)
}

// exchange writes a request as it is, closes its side (half of the connection, which is no reason to let the sender down), and returns the status of each answer until the service closes the other.
func (s *service) exchange(request string) (statuses []int) {
	s.t.Helper()
	conn := s.dial()
	defer conn.Close()
	go func() { // ends at the latest with the connection
		_, _ = io.WriteString(conn, request)
		_ = conn.CloseWrite()
	}()
	return s.answers(bufio.NewReader(conn))
}

func (s *service) answers(from *bufio.Reader) (statuses []int) {
	for {
		response, err := http.ReadResponse(from, nil)
		if err != nil {
			require.NotErrorIs(s.t, err, net.ErrClosed)
			return statuses
		}
		_, _ = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
		statuses = append(statuses, response.StatusCode)
	}
}

// request is one of HTTP/1.1, whole.
func request(method, target, body string, header ...string) string {
	head := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: x\r\n", method, target)
	for _, h := range header {
		head += h + "\r\n"
	}
	if body != "" {
		head += fmt.Sprintf("Content-Length: %d\r\n", len(body))
	}
	return head + "\r\n" + body
}

// post is the head of a POST with what it says, and then what follows it on the wire.
func post(header, rest string) string {
	return "POST /callback HTTP/1.1\r\nHost: x\r\n" + header + "\r\n\r\n" + rest
}

func TestBadRequests(t *testing.T) {
	s := sturdy(t)
	fine := request("POST", "/callback", plainBody)
	headers := func(n, size int) (h []string) {
		for i := range n {
			h = append(h, fmt.Sprintf("X-%d: %s", i, strings.Repeat("x", size)))
		}
		return h
	}
	for name, c := range map[string]struct {
		request  string
		statuses []int
	}{
		"pipelined":                  {strings.Repeat(fine, 50), slices.Repeat([]int{202}, 50)},
		"pipelined after a bad one":  {request("POST", "/callback", "{") + fine, []int{400, 202}},
		"HTTP/1.0 without a host":    {"POST /callback HTTP/1.0\r\nContent-Length: 17\r\n\r\n" + plainBody, []int{202}},
		"HTTP/1.1 without a host":    {"POST /callback HTTP/1.1\r\nContent-Length: 17\r\n\r\n" + plainBody, []int{400}},
		"two hosts":                  {request("POST", "/callback", plainBody, "Host: y"), []int{400}},
		"no HTTP":                    {"\x16\x03\x01\x02\x00\x01\x00", []int{400}},
		"HTTP/0.9":                   {"GET /\r\n\r\n", []int{400}},
		"HTTP/3.0":                   {"GET / HTTP/3.0\r\nHost: x\r\n\r\n", []int{505}},
		"two lengths":                {post("Content-Length: 17\r\nContent-Length: 1", plainBody), []int{400}},
		"two lengths in one":         {post("Content-Length: 17, 1", plainBody), []int{400}},
		"negative length":            {post("Content-Length: -1", plainBody), []int{400}},
		"signed length":              {post("Content-Length: +17", plainBody), []int{400}},
		"length over int64":          {post("Content-Length: 99999999999999999999", plainBody), []int{400}},
		"length and chunks":          {post("Content-Length: 4\r\nTransfer-Encoding: chunked", "11\r\n"+plainBody+"\r\n0\r\n\r\n"), []int{202}}, // RFC 9112, 6.3: chunks alone count
		"chunked twice":              {post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "0\r\n\r\n"+fine), []int{501}},
		"chunked and identity":       {post("Transfer-Encoding: chunked, identity", "0\r\n\r\n"+fine), []int{501}},
		"chunked in disguise":        {post("Transfer-Encoding: \x0bchunked", "0\r\n\r\n"+fine), []int{400}},
		"space before the colon":     {post("Transfer-Encoding : chunked", "0\r\n\r\n"+fine), []int{400}},
		"folded header":              {post("X: y\r\n Transfer-Encoding: chunked", ""), []int{400}},
		"bad chunk":                  {post("Transfer-Encoding: chunked", "-1\r\n"+fine), []int{400}},
		"huge chunk":                 {post("Transfer-Encoding: chunked", "fffffffffffffffff\r\n"+fine), []int{400}},
		"chunk without an end":       {post("Transfer-Encoding: chunked", "11\r\n"+plainBody), []int{400}},
		"chunk extensions, endless":  {post("Transfer-Encoding: chunked", "1;"+strings.Repeat("x", 1<<20)+"\r\n"), []int{400}},
		"NUL in a header":            {request("POST", "/callback", plainBody, "X: a\x00b"), []int{400}},
		"expects to be asked":        {request("POST", "/callback", plainBody, "Expect: 100-continue"), []int{100, 202}},
		"expects to be refused":      {post("Expect: 100-continue\r\nContent-Length: 100000000", ""), []int{413}},
		"expects something else":     {request("POST", "/callback", plainBody, "Expect: miracles"), []int{417}},
		"header of 100 KiB":          {request("POST", "/callback", plainBody, headers(1, 100<<10)...), []int{431}},
		"headers of 100 KiB":         {request("POST", "/callback", plainBody, headers(100, 1<<10)...), []int{431}},
		"a thousand headers":         {request("POST", "/callback", plainBody, headers(1000, 1)...), []int{202}},
		"hundreds of keys":           {request("POST", "/callback", plainBody, repeated("Idempotency-Key: k", 500)...), []int{202}},
		"gzip":                       {request("POST", "/callback", bomb(), "Content-Encoding: gzip"), []int{415}},
		"gzip in disguise":           {request("POST", "/callback", bomb(), "Content-Encoding: identity, gzip"), []int{415}},
		"gzip without a word":        {request("POST", "/callback", bomb()), []int{400}},
		"gzip as transfer encoding":  {post("Transfer-Encoding: gzip, chunked", "0\r\n\r\n"), []int{501}},
		"upgrade to another version": {request("POST", "/callback", plainBody, "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"), []int{202}},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, c.statuses, s.exchange(c.request)) })
	}
	s.waitsForNothing()
}

// waitsForNothing: whatever was refused left nothing behind.
func (s *service) waitsForNothing() {
	s.eventually("the inbox is empty", func() bool { return s.metric("callback_inbox_depth") == 0 })
}

func repeated(header string, n int) []string {
	return strings.Split(strings.Repeat(header+"\n", n-1)+header, "\n")
}

// bomb is 200 MiB, gzipped to less than one.
var bomb = sync.OnceValue(func() string {
	var b bytes.Buffer
	z, _ := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	zeros := make([]byte, 1<<20)
	for range 200 {
		_, _ = z.Write(zeros)
	}
	_ = z.Close()
	return b.String()
})

func TestBadPathsAndMethods(t *testing.T) {
	s := sturdy(t)
	for target, status := range map[string]int{
		"//callback": 404, "/callback/": 404, "/v1/../callback": 404, "/./callback": 404, "/callback/.": 404, "/%2e%2e/callback": 404,
		"/v1/%2e%2e/callback": 404, "/v1%2fcallbacks": 404, "/v1%2Fcallbacks": 404, "/callback%00": 404, "/callback\x00": 400,
		"/callback%": 400, "/callback%zz": 400, "callback": 400, "/callback;x=1": 404, "/CALLBACK": 404, "/\\callback": 404, "/v1\\callbacks": 404,
		"/" + strings.Repeat("a", 15_000): 404, "/" + strings.Repeat("a", 100_000): 431, "/" + strings.Repeat("/", 15_000): 404,
		"/" + strings.Repeat("../", 4_000) + "callback": 404,
		"http://elsewhere/callback":                     202, "http://elsewhere//callback": 404, "/callback?" + strings.Repeat("a=b&", 4_000): 202,
		"/callback#x": 404,
	} {
		require.Equal(t, []int{status}, s.exchange(request("POST", target, plainBody)), "%.60q", target)
	}
	for target, status := range map[string]int{
		"/v1/objects/%2e%2e%2f1": 400, "/v1/objects/1%00": 400, "/v1/objects/-1": 400, "/v1/objects/9223372036854775808": 400,
		"/v1/objects/1%27%20OR%20%271%27=%271": 400, "/v1/objects/9223372036854775807": 404, "/v1/objects/1/": 404,
		"/v1/callbacks/%27%20OR%201=1--": 404, "/v1/callbacks/" + strings.Repeat("0", 15_000): 404,
		"/v1/objects?limit=0": 400, "/v1/objects?limit=-1": 400, "/v1/objects?limit=1001": 400, "/v1/objects?limit=99999999999999999999": 400,
		"/v1/objects?limit=1e3": 400, "/v1/objects?limit=%00": 400, "/v1/objects?limit=1000": 200, "/v1/objects?limit=1%3Bdrop%20table%20objects": 400,
		"/v1/objects?after=9223372036854775807": 200, "/v1/objects?after=9223372036854775808": 400, "/v1/objects?after=-1": 400,
		"/v1/objects?after=" + strings.Repeat("9", 15_000): 400, "/v1/objects?online=true%27%20OR%20%271%27=%271": 400, "/v1/objects?online=%ff": 400,
	} {
		require.Equal(t, []int{status}, s.exchange(request("GET", target, "")), "%.60q", target)
	}
	for line, status := range map[string]int{
		"OPTIONS /callback": 405, "TRACE /callback": 405, "CONNECT x:80": 404, "CONNECT /callback": 405, "PUT /callback": 405, "post /callback": 405,
		"BREW /callback": 405, "GET /callback": 405, "OPTIONS *": 404, "POST *": 404, "P\x00ST /callback": 400, "PRI *": 404,
	} {
		require.Equal(t, []int{status}, s.exchange(line+" HTTP/1.1\r\nHost: x\r\n\r\n"), line)
	}
}

func TestBadBodies(t *testing.T) {
	s := sturdy(t, "--web-max-body=16777216")
	inUTF16 := func(order wide.AppendByteOrder) (b []byte) {
		for _, unit := range utf16.Encode([]rune("\ufeff" + plainBody)) {
			b = order.AppendUint16(b, unit)
		}
		return b
	}
	nested := func(depth int) string { return strings.Repeat("[", depth) + strings.Repeat("]", depth) }
	for name, c := range map[string]struct {
		body   string
		status int
	}{
		"a million ids":           {`{"object_ids":[` + strings.Repeat("123456,", 1_000_000) + `1]}`, 422},
		"a million names":         {`{` + strings.Repeat(`"a":1,`, 1_000_000) + `"object_ids":[]}`, 400},
		"nested deep":             {`{"object_ids":` + nested(5_000_000) + `}`, 400},
		"nested deep, ignored":    {`{"x":` + nested(5_000_000) + `,"object_ids":[]}`, 400},
		"nested, not ended":       {strings.Repeat(`{"object_ids":[`, 1_000_000), 400},
		"nested, ignored":         {`{"x":` + nested(5_000) + `,"object_ids":[]}`, 202},
		"nested ids":              {`{"object_ids":` + nested(5_000) + `}`, 422},
		"number without an end":   {`{"object_ids":[` + strings.Repeat("1", 10_000_000) + `]}`, 422},
		"exponent":                {`{"object_ids":[1e999999999]}`, 422},
		"string without an end":   {`{"tag":"` + strings.Repeat("x", 10_000_000), 400},
		"tag of 10 MB":            {`{"object_ids":[],"tag":"` + strings.Repeat("x", 10_000_000) + `"}`, 422},
		"UTF-16, little end":      {string(inUTF16(wide.LittleEndian)), 400},
		"UTF-16, big end":         {string(inUTF16(wide.BigEndian)), 400},
		"byte order mark":         {"\ufeff" + plainBody, 400},
		"bytes of no UTF-8":       {"\xff" + plainBody, 400},
		"no UTF-8 in a tag":       {"{\"object_ids\":[],\"tag\":\"\xff\"}", 422},
		"NUL after it":            {plainBody + "\x00", 400},
		"NUL in a tag":            {`{"object_ids":[],"tag":"a\u0000b"}`, 422},
		"half a surrogate in tag": {`{"object_ids":[],"tag":"\ud800"}`, 422},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, []int{c.status}, s.exchange(request("POST", "/callback", c.body)))
		})
	}
	const hostile = `x'); DROP TABLE inbox; --`
	response, err := client.Post(s.public+"/callback", "application/json", strings.NewReader(fmt.Sprintf(`{"object_ids":[2],"tag":%q}`, hostile)))
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	receipt := s.done(strings.TrimPrefix(response.Header.Get("Location"), "/v1/callbacks/"))
	require.Equal(t, strings.ToLower(strings.ReplaceAll(hostile, " ", "-")), receipt.Tag)
	s.waitsForNothing()
}
