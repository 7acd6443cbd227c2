package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"callback-service/internal/inbox"
	"callback-service/internal/reload"
	"callback-service/internal/store"
)

const defaultObjects = "data/objects.db"

// inboxSalvage ends with success whenever all was done that can be: what is lost is in the numbers.
func inboxSalvage(ctx context.Context, args []string, out io.Writer) error {
	set := flagSet("inbox", inboxAbout, out)
	into := set.String("into", "", "the inbox that takes the callbacks; it is made when it is missing")
	asJSON := set.Bool("json", false, "print JSON")
	database := set.String("database-url", "",
		"where the receipts are, as for the service: CALLBACK_DATABASE_URL by default, or else "+defaultObjects+" where that exists; none: receipts are not looked at")
	if err := parseFlags(set, args); err != nil {
		return err
	}
	source := set.Arg(0)
	if set.NArg() > 1 { // flags behind the file
		if err := parseFlags(set, set.Args()[1:]); err != nil {
			return err
		}
		if set.NArg() > 0 {
			return errors.New("inbox salvage: want one file")
		}
	}
	if source == "" || *into == "" {
		return errors.New("inbox salvage: want a file, and --into with another")
	}
	receipts, err := openReceipts(*database)
	if err != nil {
		return err
	}
	if receipts != nil {
		defer receipts.Close() //nolint:errcheck // it was only read
	}
	s, err := salvageInto(ctx, source, *into, receipts)
	if err != nil {
		return err
	}
	return printSalvaged(out, s, receipts != nil, *asJSON)
}

// openReceipts opens the database of the receipts; nil where there is none.
func openReceipts(url string) (*store.Store, error) {
	url = cmp.Or(url, os.Getenv(envPrefix+"DATABASE_URL"))
	if _, err := os.Stat(defaultObjects); url == "" && err == nil {
		url = "sqlite:" + defaultObjects
	}
	log := slog.New(slog.DiscardHandler)
	err := watchSecret(reload.New(log), log, "--database-url", url, func(secret string) error {
		url = secret
		return nil
	})
	if err != nil || url == "" || url == "none" {
		return nil, err
	}
	if path, ok := strings.CutPrefix(url, "sqlite:"); ok { // the store would make it
		if _, err := os.Stat(path); err != nil {
			return nil, fmt.Errorf("--database-url: %w; name the database of the receipts, or none", err)
		}
	}
	return store.Open(url, store.Options{ObjectTTL: time.Second, Logger: log})
}

func salvageInto(ctx context.Context, source, target string, receipts *store.Store) (s inbox.Salvaged, err error) {
	release, err := inbox.HoldSource(source, target)
	if err != nil {
		return s, err
	}
	defer release.Close() //nolint:errcheck // the process ends
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	o := inbox.Options{Logger: slog.New(slog.DiscardHandler)}
	if receipts != nil {
		o.Settled = func(ctx context.Context, ids []string) (map[string]bool, error) {
			done, err := doneOf(ctx, receipts, ids)
			if err != nil { // a service would wait until the database is back
				cancel(fmt.Errorf("--database-url: the receipts cannot be read: %w", err))
			}
			return done, err
		}
	}
	in, err := inbox.Open(target, o)
	if err != nil {
		return s, err
	}
	if s, err = in.Salvage(ctx, source); err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return s, errors.Join(err, in.Close())
}

func printSalvaged(out io.Writer, s inbox.Salvaged, looked, asJSON bool) error {
	if asJSON {
		text, err := json.Marshal(s)
		return printed(out, text, err)
	}
	if s.Again {
		_, err := fmt.Fprintln(out, "this file was salvaged into this inbox before; nothing was done")
		return err
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	settled, lost := fmt.Sprint(s.Settled), fmt.Sprint(s.Lost)
	if !looked {
		settled = "receipts were not looked at (--database-url)"
	}
	if s.Lost < 0 {
		lost = "unknown: the file's own count of its callbacks is damaged"
	}
	fmt.Fprintf(table, "brought back\t%d\nids\t%d\nwaits\t%d\nkeys\t%d\nalready there\t%d\ndone before\t%s\nset aside\t%d\nlost\t%s\nunreadable pages\t%d\n",
		s.Callbacks, s.IDs, s.Deferred, s.Keys, s.Known, settled, s.SetAside, lost, s.Unreadable)
	return table.Flush()
}
