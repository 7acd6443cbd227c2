package main

import (
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

Reads the inbox of a stopped service, or a copy of one, and changes nothing. A running service tells by its metrics. For example:
  callback-service inbox stat data/inbox.db`

func inboxStat(_ context.Context, args []string, out io.Writer) error {
	set := flagSet("inbox", inboxAbout, out)
	asJSON := set.Bool("json", false, "print JSON")
	if len(args) > 0 && args[0] == "stat" {
		args = args[1:]
	}
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
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	oldest := "-"
	if s.Oldest != nil {
		oldest = s.Oldest.Format(time.RFC3339)
	}
	fmt.Fprintf(table, "callbacks\t%d\nids\t%d\ndeferred\t%d\nset aside\t%d\nkeys\t%d\nbytes\t%d\noldest\t%s\n", s.Callbacks, s.IDs, s.Deferred, s.SetAside, s.Keys, s.Bytes, oldest)
	if len(s.Senders) > 0 {
		fmt.Fprintln(table, "\nSENDER\tCALLBACKS\tIDS")
	}
	for _, w := range s.Senders {
		fmt.Fprintf(table, "%q\t%d\t%d\n", w.Sender, w.Callbacks, w.IDs)
	}
	return table.Flush()
}
