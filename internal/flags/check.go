package flags

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// check finds what conf would refuse in words of Go, or ignore. It takes args apart as conf does.
func check(all []Flag, args []string) error {
	if slices.ContainsFunc(args, asksForInfo) {
		return nil
	}
	for _, f := range all {
		if value, set := os.LookupEnv(f.Variable); set {
			if want := f.wants(value); want != "" {
				return fmt.Errorf("%s %.100q: want %s (set by %s)", f.Name, value, want, f.Variable)
			}
		}
	}
	before := "the program's name"
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		if len(arg) < 2 || arg[0] != '-' || arg == "--" { // not shown: it may be the end of a secret with spaces
			return fmt.Errorf("unexpected argument after %s: flags are --name=value, and a value with spaces needs quotes", before)
		}
		name, value, assigned := strings.Cut(arg, "=")
		f, known := find(all, "--"+strings.TrimLeft(name, "-"))
		if !known {
			return fmt.Errorf("there is no flag %s%s (see --help)", name, DidYouMean(bare(name), words(all), "--"))
		}
		if !assigned {
			var taken, ok bool
			if value, taken, ok = f.next(args); !ok {
				return fmt.Errorf("%s has no value: want %[1]s=…", f.Name)
			} else if taken {
				args = args[1:]
			}
		}
		if want := f.wants(value); want != "" {
			return fmt.Errorf("%s %.100q: want %s", f.Name, value, want)
		}
		before = f.Name
	}
	return nil
}

func asksForInfo(arg string) bool {
	return slices.Contains([]string{"help", "h", "?", "version", "v"}, strings.TrimLeft(arg, "-")) && strings.HasPrefix(arg, "-")
}

// next is the value of a flag that stands alone: the next argument, which is then taken, unless
// that is a flag. A switch needs none.
func (f Flag) next(args []string) (value string, taken, ok bool) {
	if f.kind.Kind() == reflect.Bool {
		if len(args) > 0 && (args[0] == "true" || args[0] == "false") {
			return args[0], true, true
		}
		return "true", false, true
	}
	if len(args) == 0 || args[0] == "" || args[0][0] == '-' {
		return "", false, false
	}
	return args[0], true, true
}

// wants reads value as conf will, and returns what is wanted in its place; empty when it is right.
// Texts, and only they can be secret, are always right here.
func (f Flag) wants(value string) string {
	var err error
	var want string
	switch kind := f.kind; {
	case kind == reflect.TypeFor[time.Duration]():
		want = "a duration with its unit, such as 500ms, 30s or 1h30m"
		_, err = time.ParseDuration(value)
	case kind.Kind() == reflect.Bool:
		want = "true or false"
		_, err = strconv.ParseBool(value)
	case kind.Kind() == reflect.Int, kind.Kind() == reflect.Int64:
		want = "a whole number"
		_, err = strconv.ParseInt(value, 0, kind.Bits())
	case kind.Kind() == reflect.Float64:
		want = "a number"
		_, err = strconv.ParseFloat(value, 64)
	}
	switch {
	case err == nil:
		return ""
	case errors.Is(err, strconv.ErrRange):
		return "a number that is nearer to zero"
	}
	return want
}
