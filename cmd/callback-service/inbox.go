package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"callback-service/internal/inbox"
)

const inboxAbout = `Usage: callback-service inbox stat [--json] FILE
       callback-service inbox salvage FILE --into FILE [--json] [--database-url=URL]

stat reads the inbox of a stopped service, or a copy of one, and changes nothing. A running service tells by its metrics. For example:
  callback-service inbox stat data/inbox.db

salvage brings what can be read of a damaged inbox, which is only read, into the inbox of a stopped service, or a new one. A service does this
by itself with its own file. Callbacks that have a receipt in the database are not brought back. Doing it twice changes nothing. For example:
  callback-service inbox salvage copy-of-inbox.db --into data/inbox.db`

func inboxCommand(ctx context.Context, args []string, out io.Writer) error {
	if len(args) > 0 && args[0] == "salvage" {
		return inboxSalvage(ctx, args[1:], out)
	}
	if len(args) > 0 && args[0] == "stat" {
		args = args[1:]
	}
	return inboxStat(args, out)
}

func inboxStat(args []string, out io.Writer) error {
	set := flagSet("inbox", inboxAbout, out)
	asJSON := set.Bool("json", false, "print JSON")
	if err := parseFlags(set, args); err != nil {
		return err
	}
	if set.NArg() != 1 {
		return errors.New("inbox stat: want one file, after the flags")
	}
	s, err := inbox.Inspect(set.Arg(0))
	if err != nil {
		return err
	}
	if *asJSON {
		text, err := json.Marshal(s)
		return printed(out, text, err)
	}
	oldest, due := "-", "-"
	if s.Oldest != nil {
		oldest = s.Oldest.Format(time.RFC3339)
	}
	if s.NextDue != nil {
		due = s.NextDue.Format(time.RFC3339)
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "callbacks\t%d\nids\t%d\ndeferred\t%d\nnext due\t%s\nset aside\t%d\nkeys\t%d\nbytes\t%d\noldest\t%s\n",
		s.Callbacks, s.IDs, s.Deferred, due, s.SetAside, s.Keys, s.Bytes, oldest)
	if len(s.Senders) > 0 {
		fmt.Fprintln(table, "\nSENDER\tCALLBACKS\tIDS")
	}
	for _, w := range s.Senders {
		fmt.Fprintf(table, "%q\t%d\t%d\n", w.Sender, w.Callbacks, w.IDs)
	}
	if len(s.Damaged) > 0 {
		fmt.Fprintln(table, "\nSET ASIDE\tTABLE\tCALLBACK\tSENDER\tBYTES\tWHY")
	}
	for _, d := range s.Damaged {
		fmt.Fprintf(table, "%s\t%s\t%s\t%q\t%d\t%s\n", d.At.Format(time.RFC3339), d.Table, cmp.Or(d.CallbackID, "-"), d.Sender, d.Bytes, d.Why)
	}
	return table.Flush()
}
