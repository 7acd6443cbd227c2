package traffic

import (
	"encoding/json"
	"slices"
	"testing"
)

func idsOf(t *testing.T, b batch) []int64 {
	t.Helper()
	var doc struct {
		IDs []int64 `json:"object_ids"`
		Tag string  `json:"tag"`
	}
	if err := json.Unmarshal(b.body, &doc); err != nil || doc.IDs == nil {
		t.Fatalf("%s: %v", b.body, err)
	}
	if len(doc.IDs) != b.n {
		t.Fatalf("%d ids, want %d", len(doc.IDs), b.n)
	}
	return doc.IDs
}

func TestBatchesHaveZeroToMaxIDsOfTheSpace(t *testing.T) {
	var b batcher
	sizes, seen := map[int]bool{}, map[int64]bool{}
	for range 5000 {
		made := b.make(Shape{IDsMax: 20, IDSpace: 10})
		ids := idsOf(t, made)
		sizes[len(ids)] = true
		for _, id := range ids {
			seen[id] = true
			// The judge sees the same ids again.
			if got := made.ids.next(); got != id {
				t.Fatalf("replayed %d, sent %d", got, id)
			}
		}
		slices.Sort(ids)
		if distinct := len(slices.Compact(ids)); distinct != made.distinct {
			t.Fatalf("distinct %d, want %d", made.distinct, distinct)
		}
	}
	if len(sizes) != 21 {
		t.Errorf("%d different sizes, want 0 to 20", len(sizes))
	}
	if len(seen) != 10 || !seen[1] || !seen[10] {
		t.Errorf("ids %v, want 1 to 10", seen)
	}
}

func TestUniqueBatchesShareNoID(t *testing.T) {
	var b batcher
	seen := map[int64]bool{}
	for range 500 {
		for _, id := range idsOf(t, b.make(Shape{IDsMax: 10, Unique: true})) {
			if seen[id] {
				t.Fatalf("id %d twice", id)
			}
			seen[id] = true
		}
	}
}

func TestTagIsQuoted(t *testing.T) {
	b := batcher{tag: `a "b"`}
	var doc struct{ Tag string }
	if err := json.Unmarshal(b.make(Shape{IDsMax: 3, IDSpace: 3}).body, &doc); err != nil || doc.Tag != b.tag {
		t.Errorf("tag %q, %v", doc.Tag, err)
	}
}
