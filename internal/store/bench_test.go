package store

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"callback-service/internal/callback"
)

// BenchmarkSave writes full batches over a working set of 20 of them, so that most rows are updates, as they are behind a steady flow.
func BenchmarkSave(b *testing.B) {
	const batch, sets = 500, 20
	for _, size := range []int{100, 2000} {
		for name, newURL := range engines {
			b.Run(fmt.Sprintf("%s/%dB", name, size), func(b *testing.B) {
				s := migrated(b, newURL(b))
				objects := make([]callback.Object, batch)
				text := make([]byte, size)
				for i := range text {
					text[i] = 'a' + byte(i%26)
				}
				n := 0
				for b.Loop() {
					first := int64(n%sets) * batch
					for i := range objects {
						objects[i] = answer(first+int64(i), n)
						objects[i].Data = fmt.Appendf(nil, `{"id":%d,"online":true,"n":%d,"text":"%s"}`, first+int64(i), n, text)
					}
					require.NoError(b, s.Save(context.Background(), callback.Batch{Objects: objects}))
					n++
				}
				b.ReportMetric(float64(n*batch)/b.Elapsed().Seconds(), "objects/s")
			})
		}
	}
}

// BenchmarkObject is one read by key.
func BenchmarkObject(b *testing.B) {
	for name, newURL := range engines {
		b.Run(name, func(b *testing.B) {
			s := migrated(b, newURL(b))
			s.SetObjectTTL(time.Hour)
			save(b, s, answer(1, 1))
			for b.Loop() {
				_, err := s.Object(context.Background(), 1)
				require.NoError(b, err)
			}
		})
	}
}
