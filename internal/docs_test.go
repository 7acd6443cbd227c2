package internal_test

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// foreign is what the documents name of other programs, by name and with whose it is. All else they name must be ours.
var foreign = map[string]string{
	"--collector.zipkin.host-port": "Jaeger",
	"Node.js":                      "a program that looks like a file",
	"failsafe-go":                  "a library that was tried and left",
	"traceparent":                  "a header of W3C Trace Context",
	"tracestate":                   "another",
}

// document is a text of ours. code is what stands in it as code, in spans and in fenced blocks: there every word is meant literally.
type document struct {
	name, text string
	spans      []string
	blocks     []string
}

var (
	fence = regexp.MustCompile("(?ms)^```\\w*\n(.*?)^```")
	span  = regexp.MustCompile("`([^`\n]+)`")
)

func documents(t *testing.T) []document {
	t.Helper()
	names := []string{"../README.md"}
	for _, pattern := range []string{"../doc/*.md", "../doc/adr/*.md"} {
		found, err := filepath.Glob(pattern)
		require.NoError(t, err)
		names = append(names, found...)
	}
	require.Greater(t, len(names), 5)
	docs := make([]document, 0, len(names))
	for _, name := range names {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		d := document{name: filepath.ToSlash(name), text: string(text)}
		for _, m := range fence.FindAllStringSubmatch(d.text, -1) {
			d.blocks = append(d.blocks, m[1])
		}
		for _, m := range span.FindAllStringSubmatch(fence.ReplaceAllString(d.text, ""), -1) {
			d.spans = append(d.spans, m[1])
		}
		docs = append(docs, d)
	}
	return docs
}

// claims are the matches of a pattern in pieces of text; the first group where there is one.
func claims(pattern string, pieces ...string) (found []string) {
	p := regexp.MustCompile(pattern)
	for _, piece := range pieces {
		for _, m := range p.FindAllStringSubmatch(piece, -1) {
			if claim := m[len(m)-1]; foreign[claim] == "" {
				found = append(found, claim)
			}
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// TestDocs looks up in the code what the documents name. What it asks is taken from the texts: a new flag, route or test in a document is
// looked up without a change here.
func TestDocs(t *testing.T) {
	code := readCode(t)
	for _, d := range documents(t) {
		t.Run(strings.TrimPrefix(d.name, "../"), func(t *testing.T) {
			asCode := slices.Concat(d.spans, d.blocks)
			check := func(what string, known func(string) bool, claims []string) {
				t.Helper()
				for _, claim := range claims {
					if !known(claim) {
						t.Errorf("%s: the code has no %s %s", d.name, what, claim)
					}
				}
			}
			check("flag", code.flags.has, claims(`(?:^|[^\w-])(--[a-z][\w.-]*)`, d.text))
			check("variable", code.variable, claims(`\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b`, d.text))
			check("make target", code.targets.has, claims(`\bmake ([a-z][a-z-]*)`, asCode...))
			check("command", code.literals.has, claims(`\bcallback-service ([a-z][a-z-]+)`, asCode...))
			check("test", code.tests.has, claims(`\b(?:Test|Fuzz|Benchmark)[A-Z]\w*`, d.text))
			check("metric", code.metric, claims(`\bcallback_[a-z_]+`, d.text))
			check("alert", code.words.has, claims(`(?m)^#+ (?:Alert )?((?:[A-Z][a-z]+){2,})$`, d.text))
			check("route", code.route, claims(`(?:^| )(/[\w/.{}-]*)`, d.spans...))
			check("route", code.route, claims(`localhost:[69]0[69]0(/[\w/.{}-]*)`, asCode...))
			check("query parameter", code.literals.has, claims(`[?&](\w+)=`, asCode...))
			check("file", code.files.has, claims(`(?:^|[^\w/.-])((?:cmd|internal|deploy|doc|bin|\.ci|\.github)/[\w.-][\w/.-]*[\w-])`, d.text))
			check("file", code.files.has, claims(`(?:^|[^\w/.-])([\w.-]+\.(?:go|yml|yaml|md|png|sql|js))\b`, d.text))
			check("name", code.name, claims(`\b\w*(?:[a-z]_[a-z]|[a-z][A-Z])\w*`, d.spans...))
			check("name", code.name, claims(`^[a-z][a-z-]+[a-z]$`, d.spans...))
			check("name", code.name, claims(`^[a-z]+\.(\w+)$`, d.spans...))
			links(t, d)
		})
	}
}

// links checks that what a document links to is there: the file, and the heading.
func links(t *testing.T, d document) {
	t.Helper()
	for _, link := range claims(`\]\(([^)\s]+)\)`, d.text) {
		if strings.Contains(link, "://") {
			continue
		}
		file, anchor, _ := strings.Cut(link, "#")
		target := d.name
		if file != "" {
			target = path.Join(path.Dir(d.name), file)
		}
		info, err := os.Stat(target)
		if err != nil {
			t.Errorf("%s: the link %s leads nowhere", d.name, link)
			continue
		}
		if anchor == "" || info.IsDir() {
			continue
		}
		text, err := os.ReadFile(target)
		require.NoError(t, err)
		if !slices.Contains(anchors(string(text)), anchor) {
			t.Errorf("%s: there is no heading for the link %s", d.name, link)
		}
	}
}

// anchors are the names that GitHub gives to headings.
func anchors(text string) (names []string) {
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(text, -1) {
		name := regexp.MustCompile(`[^\w\- ]`).ReplaceAllString(strings.ToLower(m[1]), "")
		names = append(names, strings.ReplaceAll(name, " ", "-"))
	}
	return names
}

// walk calls f for each file of the project that is not a dependency, named by its path from the root.
func walk(t *testing.T, f func(name string)) {
	t.Helper()
	err := filepath.WalkDir("..", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative := filepath.ToSlash(strings.TrimPrefix(name, ".."+string(filepath.Separator)))
		if entry.IsDir() && slices.Contains([]string{"vendor", ".git", "bin", "data"}, relative) {
			return filepath.SkipDir
		}
		if relative != ".." {
			f(relative)
		}
		return nil
	})
	require.NoError(t, err)
}
