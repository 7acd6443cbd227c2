// Package flags reads the flags and the environment variables of a program into a struct, and says
// in plain words what is wrong with them.
//
// Each flag is a variable as well: with the prefix CALLBACK, --object-ttl is CALLBACK_OBJECT_TTL.
// The struct and its tags are those of package conf, which does the reading.
package flags

import (
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"
	"sync"

	"github.com/ardanlabs/conf/v3"
)

// Version is embedded in the struct, for --version.
type Version = conf.Version

// Parse returns these with the text to print.
var (
	ErrHelp    = conf.ErrHelpWanted
	ErrVersion = conf.ErrVersionWanted
)

// Flag is one flag of a struct.
type Flag struct {
	Name     string // --object-ttl
	Variable string // CALLBACK_OBJECT_TTL
	Value    string // the one in the struct
	Secret   bool   // Value must not be printed

	kind reflect.Type
}

// reading guards os.Args, the only place where conf looks for flags.
var reading sync.Mutex

// Parse fills cfg, a pointer to a struct, from its defaults, the variables with the prefix, and
// args, of which later ones win. Errors name the flag, the value unless it is secret, and what is
// wanted.
func Parse(prefix string, cfg any, args []string) (info string, err error) {
	if err := check(All(prefix, cfg), args); err != nil {
		return "", err
	}
	reading.Lock()
	defer reading.Unlock()
	saved := os.Args
	defer func() { os.Args = saved }()
	os.Args = append([]string{saved[0]}, args...)
	return conf.ParseWithOptions(prefix, cfg, conf.WithStrictFlags())
}

// All returns the flags of cfg, a pointer to a struct, in its order.
func All(prefix string, cfg any) []Flag { return walk(prefix, "", reflect.ValueOf(cfg).Elem()) }

// humps finds where conf puts a dash into a field's name. Names with capitals in a row have a flag
// tag.
var humps = regexp.MustCompile(`([a-z])([A-Z])`)

func walk(prefix, path string, s reflect.Value) (all []Flag) {
	for i := range s.NumField() {
		field, value := s.Type().Field(i), s.Field(i)
		if field.Type == reflect.TypeFor[Version]() {
			continue
		}
		name := path + strings.ToLower(humps.ReplaceAllString(field.Name, "$1-$2"))
		if field.Type.Kind() == reflect.Struct {
			all = append(all, walk(prefix, name+"-", value)...)
			continue
		}
		kind := field.Type
		if kind.Kind() == reflect.Pointer { // unset is nil
			kind = kind.Elem()
		}
		if value = reflect.Indirect(value); !value.IsValid() {
			value = reflect.ValueOf("")
		}
		secret := false
		for option := range strings.SplitSeq(field.Tag.Get("conf"), ",") {
			if tagged, ok := strings.CutPrefix(option, "flag:"); ok {
				name = tagged
			}
			secret = secret || option == "mask"
		}
		all = append(all, Flag{
			Name: "--" + name, Variable: prefix + "_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_")),
			Value: fmt.Sprint(value), Secret: secret, kind: kind,
		})
	}
	return all
}

var flagFirst = regexp.MustCompile(`^--[a-z][a-z0-9-]*`)

// Describe returns the text of err. When it begins with a flag, the flag's variable is named at its
// end, and whether the value came from there.
func Describe(all []Flag, args []string, err error) string {
	text := err.Error()
	f, known := find(all, flagFirst.FindString(text))
	if !known || strings.Contains(text, f.Variable) {
		return text
	}
	if _, set := os.LookupEnv(f.Variable); set && !given(f, args) {
		return fmt.Sprintf("%s (set by %s)", text, f.Variable)
	}
	return fmt.Sprintf("%s (variable: %s)", text, f.Variable)
}

func find(all []Flag, name string) (Flag, bool) {
	for _, f := range all {
		if f.Name == name {
			return f, true
		}
	}
	return Flag{}, false
}

// given reports whether f is among args.
func given(f Flag, args []string) bool {
	for _, arg := range args {
		name, _, _ := strings.Cut(arg, "=")
		if name == f.Name || "-"+name == f.Name {
			return true
		}
	}
	return false
}
