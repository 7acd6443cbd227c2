package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"callback-service/internal/auth"
	"callback-service/internal/flags"
)

// subcommand is a word that is asked for in place of running the service.
type subcommand struct {
	name, usage, about string
	run                func(ctx context.Context, args []string, out io.Writer) error
}

func commands() []subcommand {
	return []subcommand{
		{"check", "check [flags of the service]", "whether the service could start and work with these flags: exit status 0 or 1", check},
		{"dead-letters", "dead-letters list|redrive|drop [flags]", "what could not be fetched: list it, fetch it again, or forget it", deadLetters},
		{"inbox", "inbox stat|salvage [flags] FILE", "what waits in the inbox of a stopped service; what can be read of a damaged one, brought back", inboxCommand},
		{"health", "health [flags]", "whether the service is ready: exit status 0 or 1", health},
		{"hash-key", "hash-key", "how a bearer key, read from standard input, stands in --auth-file", hashKey},
	}
}

// runCommand runs the command that args begin with; ok is false when they begin with none.
func runCommand(ctx context.Context, args []string, out io.Writer) (ok bool, err error) {
	if len(args) == 0 || strings.HasPrefix(args[0], "-") {
		return false, nil
	}
	for _, c := range commands() {
		if c.name == args[0] {
			if err = c.run(ctx, args[1:], out); errors.Is(err, flag.ErrHelp) {
				err = nil
			}
			return true, err
		}
	}
	var names []string
	for _, c := range commands() {
		names = append(names, c.name)
	}
	return true, fmt.Errorf("there is no command %q%s (see --help)", args[0], flags.DidYouMean(args[0], names, ""))
}

// commandHelp is the end of --help.
func commandHelp() string {
	var b strings.Builder
	b.WriteString("\nCOMMANDS\n")
	for _, c := range commands() {
		fmt.Fprintf(&b, "  %-40s %s\n", c.usage, c.about)
	}
	b.WriteString("\nEXAMPLE\n  callback-service --source-url=https://objects.example --database-url=postgres://user:password@db:5432/callbacks --object-ttl=30s\n")
	return b.String()
}

// flagSet is for the flags of a command; its help goes to out.
func flagSet(name, about string, out io.Writer) *flag.FlagSet {
	set := flag.NewFlagSet(name, flag.ContinueOnError)
	set.SetOutput(io.Discard) // errors are returned, and printed once
	set.Usage = func() {
		fmt.Fprintf(out, "%s\n\n", about)
		set.SetOutput(out)
		set.PrintDefaults()
		set.SetOutput(io.Discard)
	}
	return set
}

// parseFlags is set.Parse with errors in plain words. A flag that is neither a text nor a switch is
// a number.
func parseFlags(set *flag.FlagSet, args []string) error {
	usage := set.Usage
	set.Usage = func() {} // it would come before each error
	err := set.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		usage()
	}
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return err
	}
	text := err.Error()
	if name, ok := strings.CutPrefix(text, "flag provided but not defined: -"); ok {
		var known []string
		set.VisitAll(func(f *flag.Flag) { known = append(known, f.Name) })
		return fmt.Errorf("%s: there is no flag --%s%s (see %[1]s --help)", set.Name(), name, flags.DidYouMean(name, known, "--"))
	}
	if name, ok := strings.CutPrefix(text, "flag needs an argument: -"); ok {
		return fmt.Errorf("%s: --%s has no value: want --%[2]s=…", set.Name(), name)
	}
	if rest, ok := strings.CutPrefix(text, "invalid value "); ok {
		value, rest, _ := strings.Cut(rest, " for flag -")
		name, _, _ := strings.Cut(rest, ":")
		return fmt.Errorf("%s: --%s %s: want a number", set.Name(), name, value)
	}
	return fmt.Errorf("%s: %w", set.Name(), err)
}

func hashKey(_ context.Context, args []string, out io.Writer) error {
	const about = "Usage: callback-service hash-key <key-file\n\nPrints how the bearer key in the first line stands in --auth-file."
	if err := parseFlags(flagSet("hash-key", about, out), args); err != nil {
		return err
	}
	line, err := bufio.NewReader(os.Stdin).ReadString('\n')
	key := strings.TrimRight(line, "\r\n")
	if key == "" {
		if err == nil || errors.Is(err, io.EOF) {
			err = errors.New("there is no key on standard input")
		}
		return err
	}
	_, err = fmt.Fprintln(out, auth.HashKey(key))
	return err
}
