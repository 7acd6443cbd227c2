package middleware

import (
	"container/heap"
	"fmt"
	"math"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"callback-service/internal/auth"
	"callback-service/internal/callback"
)

const (
	// maxSenders bounds the memory of a RateLimit: about 3 MiB when it is full.
	maxSenders = 10_000
	// longest is the most that the headers tell, in seconds, and keeps times within what a time.Duration holds.
	longest = 1_000_000_000
)

// RateLimit is a token bucket for each sender. It is off until Set turns it on. All methods may be called at once.
type RateLimit struct {
	key func(*http.Request) string

	mu      sync.Mutex
	limit   rate.Limit // 0: off
	burst   int
	buckets map[string]*bucket
	byFull  fullSoonest // the same buckets
}

// bucket is one sender's.
type bucket struct {
	key    string
	tokens *rate.Limiter
	fullAt time.Time // from then on it says no more than a new one would
	index  int       // in the heap
}

// NewRateLimit limits each value of key by itself. The key must not be one that a sender can choose freely.
func NewRateLimit(key func(*http.Request) string) *RateLimit {
	return &RateLimit{key: key, buckets: map[string]*bucket{}}
}

// Set lets each sender in perSecond times a second, and burst times at once after a pause. A rate of 0 turns the limit off; a burst of 0 is a
// second's worth, at least 1. Senders keep what they have used up.
func (l *RateLimit) Set(perSecond float64, burst int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !(perSecond > 0) {
		l.limit, l.byFull = 0, nil
		clear(l.buckets)
		return
	}
	if burst <= 0 {
		burst = int(min(longest, max(1, math.Ceil(perSecond))))
	}
	l.limit, l.burst = rate.Limit(perSecond), burst
	now := time.Now()
	for _, b := range l.byFull {
		b.tokens.SetLimitAt(now, l.limit)
		b.tokens.SetBurstAt(now, l.burst)
		b.fullAt = now.Add(l.refill(float64(l.burst) - b.tokens.TokensAt(now)))
	}
	heap.Init(&l.byFull)
}

// Middleware refuses what is over the limit with rate_limited and a Retry-After. While there is a limit every answer says where its sender
// stands: RateLimit-Policy and RateLimit of draft-ietf-httpapi-ratelimit-headers.
func (l *RateLimit) Middleware(reject func(http.ResponseWriter, *http.Request, error)) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s, on := l.take(l.key(r))
			if !on {
				next.ServeHTTP(w, r)
				return
			}
			w.Header().Set("RateLimit-Policy", fmt.Sprintf(`"default";q=%d;w=%d`, s.burst, s.window))
			w.Header().Set("RateLimit", fmt.Sprintf(`"default";r=%d;t=%d`, s.remaining, seconds(s.reset)))
			if s.allowed {
				next.ServeHTTP(w, r)
				return
			}
			e := callback.Errorf(callback.RateLimited, "over %g callbacks a second (--web-rate); repeat later", s.perSecond)
			e.RetryAfter = max(time.Second, s.reset)
			reject(w, r, e)
		})
	}
}

// standing is where a sender stands after a request of its own.
type standing struct {
	allowed   bool
	perSecond float64
	burst     int
	window    int // seconds in which a burst comes back
	remaining int
	reset     time.Duration // until there is a place again, or while there is one, until there is a whole burst
}

func (l *RateLimit) take(key string) (s standing, on bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.limit == 0 {
		return s, false
	}
	now := time.Now()
	b := l.bucket(key, now)
	s = standing{
		allowed: b.tokens.AllowN(now, 1), perSecond: float64(l.limit),
		burst: l.burst, window: seconds(l.refill(float64(l.burst))),
	}
	tokens := b.tokens.TokensAt(now)
	s.remaining = max(0, int(tokens))
	untilFull := l.refill(float64(l.burst) - tokens)
	b.fullAt = now.Add(untilFull)
	heap.Fix(&l.byFull, b.index)
	if s.reset = untilFull; s.remaining == 0 {
		s.reset = l.refill(1 - tokens)
	}
	return s, true
}

// bucket finds the bucket of key, or makes one. When there are too many, the one that is full soonest goes. If it is full already, nobody can
// tell; otherwise it is the one that has least to forget, which of senders that did the same is the oldest. By age alone, somebody with many
// addresses could have a busy one forgotten.
func (l *RateLimit) bucket(key string, now time.Time) *bucket {
	if b, ok := l.buckets[key]; ok {
		return b
	}
	if len(l.byFull) >= maxSenders {
		delete(l.buckets, heap.Pop(&l.byFull).(*bucket).key)
	}
	b := &bucket{key: key, tokens: rate.NewLimiter(l.limit, l.burst), fullAt: now}
	l.buckets[key] = b
	heap.Push(&l.byFull, b)
	return b
}

// refill is the time in which so many tokens come.
func (l *RateLimit) refill(tokens float64) time.Duration {
	return time.Duration(min(longest, max(0, tokens/float64(l.limit))) * float64(time.Second))
}

// seconds rounds up: whoever comes back a moment too early is refused again.
func seconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }

// fullSoonest is a heap of buckets by fullAt.
type fullSoonest []*bucket

func (h fullSoonest) Len() int           { return len(h) }
func (h fullSoonest) Less(i, j int) bool { return h[i].fullAt.Before(h[j].fullAt) }
func (h fullSoonest) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push is for package heap.
func (h *fullSoonest) Push(x any) {
	b := x.(*bucket)
	b.index = len(*h)
	*h = append(*h, b)
}

// Pop is for package heap.
func (h *fullSoonest) Pop() any {
	old := *h
	b := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return b
}

// SenderOrIP is who sends a request, as a key: the sender, or, where nobody asks who that is, where the request comes from.
func SenderOrIP(r *http.Request) string {
	if s, ok := auth.FromContext(r.Context()); ok {
		return "sender " + s.Name
	}
	return RemoteIP(r)
}

// RemoteIP is the address that a request comes from, as a key. An IPv6 network of 64 bits counts as one: a single host has all of it to choose from.
func RemoteIP(r *http.Request) string {
	remote, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	ip := remote.Addr().Unmap()
	if ip.Is4() {
		return ip.String()
	}
	network, _ := ip.Prefix(64) // 64 bits are never too many for an IPv6 address
	return network.String()
}
