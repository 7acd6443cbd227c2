// Package internal_test holds the import arrows of doc/DESIGN.md.
package internal_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "callback-service/"

// arrows says which of our packages each may import, besides telemetry, which any may.
var arrows = map[string][]string{
	"internal/callback":    {},
	"internal/telemetry":   {},
	"internal/disk":        {},
	"internal/events":      {"internal/callback"},
	"internal/flags":       {},
	"internal/maintenance": {},
	"internal/reload":      {},
	"internal/web":         {"internal/callback"},
	"internal/auth":        {"internal/callback"},
	"internal/middleware":  {"internal/callback", "internal/web", "internal/auth"},
	"internal/handlers":    {"internal/callback", "internal/events", "internal/maintenance", "internal/web", "internal/auth"},
	"internal/inbox":       {"internal/callback", "internal/disk", "internal/sqlitefile"},
	"internal/dispatch":    {"internal/callback", "internal/events"},
	"internal/source":      {"internal/callback"},
	"internal/sqlitefile":  {},
	"internal/store":       {"internal/callback", "internal/disk", "internal/sqlitefile"},
	"internal/expire":      {"internal/callback"},
	"internal/diagnose":    {"internal/dispatch"},
	"internal/traffic":     {},
	"internal/simulate":    {"internal/callback", "internal/disk", "internal/store"}, // for tests only
}

// confined says who alone may import what is hard to be rid of.
var confined = map[string]string{
	"go.opencensus.io":          "internal/telemetry",
	"contrib.go.opencensus.io":  "internal/telemetry",
	"github.com/openzipkin":     "internal/telemetry",
	"gorm.io":                   "internal/store",
	"github.com/jackc":          "internal/store",
	"github.com/ardanlabs/conf": "internal/flags",
	"github.com/ncruces":        "internal",
}

func TestImportArrows(t *testing.T) {
	seen := map[string]bool{}
	for file, imports := range sources(t) {
		from := path.Dir(file)
		seen[from] = true
		for _, to := range imports {
			for prefix, owner := range confined {
				if strings.HasPrefix(to, prefix) && !strings.HasPrefix(from, owner) {
					t.Errorf("%s imports %s, which only %s may", file, to, owner)
				}
			}
			ours, ok := strings.CutPrefix(to, module)
			if !ok || strings.HasPrefix(from, "cmd/") && layer(ours) != "internal/simulate" || ours == "internal/telemetry" && from != ours {
				continue
			}
			if layer(ours) == "internal/simulate" && layer(from) != layer(ours) {
				t.Errorf("%s imports %s, which is for tests only", file, ours)
			}
			may, known := arrows[layer(from)]
			if !known {
				t.Errorf("%s: no arrows are drawn for %s; add them here and to doc/DESIGN.md", file, from)
			}
			if layer(ours) != layer(from) && !slices.Contains(may, layer(ours)) {
				t.Errorf("%s imports %s, against the arrows", file, ours)
			}
		}
	}
	require.True(t, seen["internal/dispatch"] && seen["cmd/callback-service"], "the test did not find the sources: %v", seen)
}

// layer is the package at the top of a folder: internal/inbox/inboxtest belongs to internal/inbox.
func layer(dir string) string {
	parts := strings.SplitN(dir, "/", 3)
	return path.Join(parts[:min(2, len(parts))]...)
}

// sources are the imports of each Go file that is not a test.
func sources(t *testing.T) map[string][]string {
	all := map[string][]string{}
	for _, root := range []string{"../internal", "../cmd"} {
		err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
				return err
			}
			parsed, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
			if err != nil {
				return err
			}
			file := filepath.ToSlash(strings.TrimPrefix(name, ".."+string(filepath.Separator)))
			all[file] = []string{}
			for _, spec := range parsed.Imports {
				imported, err := strconv.Unquote(spec.Path.Value)
				if err != nil {
					return err
				}
				all[file] = append(all[file], imported)
			}
			return nil
		})
		require.NoError(t, err)
	}
	return all
}
