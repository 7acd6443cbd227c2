package internal_test

import (
	"go/ast"
	"go/parser"
	"go/scanner"
	"go/token"
	"net/http"
	"os"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/ardanlabs/conf/v3"
	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/require"

	"callback-service/internal/handlers"
	"callback-service/internal/telemetry"
)

type set map[string]bool

func (s set) has(name string) bool { return s[name] }

// inventory is what the code has, for the documents to name.
type inventory struct {
	files     set // paths from the root, and their last elements; bin/ has the commands
	flags     set // with their dashes
	variables set // of the environment
	targets   set // of make
	tests     set
	routes    []string // without methods
	literals  set      // whole string literals of Go
	words     set      // identifiers, words of literals, and words of what is not Go; comments of Go are not looked at
}

func readCode(t *testing.T) *inventory {
	t.Helper()
	c := &inventory{files: set{}, flags: set{"--help": true, "--version": true}, variables: set{}, targets: set{}, tests: set{}, literals: set{}, words: set{}}
	walk(t, func(name string) {
		c.files[name], c.files[path.Base(name)] = true, true
		switch {
		case path.Ext(name) == ".go":
			c.readGo(t, name)
		case slices.Contains([]string{".yaml", ".yml", ".json", ".sql", ".js", ".html"}, path.Ext(name)), name == "Makefile", strings.HasPrefix(name, ".ci/"):
			c.readText(t, name)
		}
	})
	for _, m := range regexp.MustCompile(`(?m)^([a-z-]+):.*##`).FindAllStringSubmatch(read(t, "Makefile"), -1) {
		c.targets[m[1]] = true
	}
	for command, prefix := range map[string]string{"callback-service": "CALLBACK", "client-service": "CLIENT"} {
		c.files["bin/"+command] = true
		c.readConfig(t, "cmd/"+command+"/config.go", prefix)
	}
	api := handlers.API{Metrics: telemetry.NewMetrics(nil, nil)}
	for _, router := range []http.Handler{api.Public(), api.Operator()} {
		require.NoError(t, chi.Walk(router.(chi.Routes), func(_, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
			c.routes = append(c.routes, strings.TrimSuffix(route, "*"))
			return nil
		}))
	}
	return c
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(path.Join("..", name))
	require.NoError(t, err)
	return string(text)
}

var word = regexp.MustCompile(`\w+(?:-\w+)*`)

func (c *inventory) addWords(text string) {
	for _, w := range word.FindAllString(text, -1) {
		c.words[w] = true
		for part := range strings.SplitSeq(w, "-") {
			c.words[part] = true
		}
	}
}

func (c *inventory) readText(t *testing.T, name string) {
	if info, err := os.Stat(path.Join("..", name)); err == nil && !info.IsDir() {
		c.addWords(read(t, name))
	}
}

// readGo takes what a file of Go declares and says. Of tests only the names count: they may speak of what is not there.
func (c *inventory) readGo(t *testing.T, name string) {
	text := read(t, name)
	if strings.HasSuffix(name, "_test.go") {
		for _, m := range regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)\w+)`).FindAllStringSubmatch(text, -1) {
			c.tests[m[1]] = true
		}
		c.addWords(strings.Join(regexp.MustCompile(`"[A-Z]+(?:_[A-Z]+)+"`).FindAllString(text, -1), " ")) // of its environment
		return
	}
	files := token.NewFileSet()
	var s scanner.Scanner
	s.Init(files.AddFile(name, -1, len(text)), []byte(text), nil, 0)
	for {
		_, kind, literal := s.Scan()
		switch kind {
		case token.EOF:
			if strings.HasPrefix(name, "cmd/") {
				c.readFlags(t, name, text)
			}
			return
		case token.IDENT:
			c.words[literal] = true
		case token.STRING:
			value, err := strconv.Unquote(literal)
			require.NoError(t, err, name)
			c.literals[value] = true
			c.addWords(value)
		}
	}
}

// readFlags finds the flags of commands: set.String("name", …) and its like.
func (c *inventory) readFlags(t *testing.T, name, text string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), name, text, parser.SkipObjectResolution)
	require.NoError(t, err)
	ast.Inspect(file, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || len(call.Args) < 3 {
			return true
		}
		method, ok := call.Fun.(*ast.SelectorExpr)
		if !ok || !regexp.MustCompile(`^(String|Bool|Int|Int64|Uint|Float64|Duration|Var|\w+Var)$`).MatchString(method.Sel.Name) {
			return true
		}
		for _, arg := range call.Args[:2] {
			if literal, ok := arg.(*ast.BasicLit); ok && literal.Kind == token.STRING {
				c.flags["--"+strings.Trim(literal.Value, `"`)] = true
				break
			}
		}
		return true
	})
}

// readConfig asks conf itself for the flags and variables of a program's config: a struct with its fields and tags is made of what the
// parser sees, for no package can import main.
func (c *inventory) readConfig(t *testing.T, name, prefix string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), name, read(t, name), parser.SkipObjectResolution)
	require.NoError(t, err)
	var shape reflect.Type
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.TypeSpec); ok && spec.Name.Name == "config" {
			shape = shapeOf(t, spec.Type.(*ast.StructType))
		}
		return true
	})
	require.NotNil(t, shape, name)
	usage, err := conf.UsageInfo(prefix, reflect.New(shape).Interface())
	require.NoError(t, err)
	for _, m := range regexp.MustCompile(`(?m)^ +(?:-\w, )?(--[a-z0-9-]+|[A-Z][A-Z0-9_]+) +<`).FindAllStringSubmatch(usage, -1) {
		c.flags[m[1]], c.variables[m[1]] = true, true // names of the one are none of the other
	}
	require.Greater(t, len(c.variables), 20, usage)
}

// shapeOf keeps names and tags. Every value is a string: conf takes any default for one.
func shapeOf(t *testing.T, fields *ast.StructType) reflect.Type {
	t.Helper()
	var shape []reflect.StructField
	for _, field := range fields.Fields.List {
		kind := reflect.TypeFor[string]()
		if inner, ok := field.Type.(*ast.StructType); ok {
			kind = shapeOf(t, inner)
		}
		var tag string
		if field.Tag != nil {
			var err error
			tag, err = strconv.Unquote(field.Tag.Value)
			require.NoError(t, err)
		}
		for _, name := range field.Names { // what is embedded is conf's
			shape = append(shape, reflect.StructField{Name: name.Name, Type: kind, Tag: reflect.StructTag(tag)})
		}
	}
	return reflect.StructOf(shape)
}

// variable: of a program's config, or one that a script, a test or Go's runtime reads.
func (c *inventory) variable(name string) bool {
	if strings.HasPrefix(name, "CALLBACK_") || strings.HasPrefix(name, "CLIENT_") {
		return c.variables[name] || c.words[name]
	}
	return c.words[name]
}

// metric: telemetry puts the prefix on. Names in JSON begin with it too.
func (c *inventory) metric(name string) bool {
	base := strings.TrimPrefix(name, "callback_")
	for _, suffix := range []string{"", "_bucket", "_sum", "_count"} {
		if c.literals[strings.TrimSuffix(base, suffix)] {
			return true
		}
	}
	return c.words[name]
}

// name is any of the names that the code has, or of words of the code with hyphens between them.
func (c *inventory) name(name string) bool {
	parts := strings.Split(name, "-")
	return !slices.ContainsFunc(parts, func(part string) bool { return !c.words[part] }) || c.metric(name) || c.tests[name] || c.files[name+".go"]
}

var placeholder = regexp.MustCompile(`\{[^}]*\}`)

// route: one of either listener, the beginning or the end of one, or, as those of client-service, written out in the code. An id may stand
// where the route has a placeholder.
func (c *inventory) route(name string) bool {
	name = placeholder.ReplaceAllString(name, "{}")
	for _, route := range c.routes {
		pattern := regexp.QuoteMeta(placeholder.ReplaceAllString(route, "{}"))
		pattern = strings.ReplaceAll(pattern, `\{\}`, `(?:\{\}|[\w-]+)`)
		if regexp.MustCompile(`^`+pattern+`$`).MatchString(name) ||
			strings.HasPrefix(placeholder.ReplaceAllString(route, "{}"), strings.TrimSuffix(name, "/")+"/") ||
			strings.HasSuffix(placeholder.ReplaceAllString(route, "{}"), name) {
			return true
		}
	}
	for _, method := range []string{"", "GET ", "PUT ", "POST "} {
		if c.literals[method+name] {
			return true
		}
	}
	return false
}
