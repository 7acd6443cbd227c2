package store

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"callback-service/internal/callback"
)

// TestReclaim: a file that was large for a while becomes small again.
func TestReclaim(t *testing.T) {
	path := filepath.Join(t.TempDir(), "objects.db")
	s := migrated(t, "sqlite:"+path)
	assert.True(t, s.Embedded())
	const objects = 30_000 // some 6 MB
	for from := int64(0); from < objects; from += 1000 {
		var batch callback.Batch
		for id := from; id < from+1000; id++ {
			batch.Objects = append(batch.Objects, answer(id, 1))
		}
		require.NoError(t, s.Save(context.Background(), batch))
	}
	require.NoError(t, s.current.write.Exec(`DELETE FROM objects`).Error)
	freed, err := s.Reclaim(context.Background())
	require.NoError(t, err)
	assert.Greater(t, freed, int64(2<<20))
	require.NoError(t, s.current.write.Exec(`PRAGMA wal_checkpoint(TRUNCATE)`).Error)
	info, err := os.Stat(path)
	require.NoError(t, err)
	assert.Less(t, info.Size(), int64((sparePage+100)*pageBytes))
	freed, err = s.Reclaim(context.Background())
	require.NoError(t, err)
	assert.Zero(t, freed)
}
