package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"callback-service/internal/callback"
	"callback-service/internal/reload"
	"callback-service/internal/web"
)

const deadLettersAbout = `Usage: callback-service dead-letters list|redrive|drop [flags]

Asks the operator listener of a running service. For example:
  callback-service dead-letters list --reason=malformed --since=2026-01-31
  callback-service dead-letters redrive --reason=status --limit=1000 --rate=50
  callback-service dead-letters drop --sender=billing --dry-run`

// deadLetterFlags are the filter, and how the service is asked.
type deadLetterFlags struct {
	reason, sender, since, after string
	limit                        int
	rate                         float64
	dryRun, all, json            bool
	address, token, ca           string
}

func deadLetters(ctx context.Context, args []string, out io.Writer) error {
	var f deadLetterFlags
	set := flagSet("dead-letters", deadLettersAbout, out)
	set.StringVar(&f.reason, "reason", "", "only those that failed for this reason, such as malformed, status, timeout")
	set.StringVar(&f.sender, "sender", "", "only those of this sender")
	set.StringVar(&f.since, "since", "", "only those that failed since: a day, UTC, or an RFC 3339 time")
	set.StringVar(&f.after, "after", "", "list: the cursor that the page before ended with")
	set.IntVar(&f.limit, "limit", 100, "how many at most")
	set.Float64Var(&f.rate, "rate", 0, "redrive: ids a second; 0: at once")
	set.BoolVar(&f.dryRun, "dry-run", false, "redrive, drop: only count")
	set.BoolVar(&f.all, "all", false, "drop: without a filter")
	set.BoolVar(&f.json, "json", false, "print the service's JSON")
	set.StringVar(&f.address, "address", operatorAddress(), addressHelp)
	set.StringVar(&f.ca, "ca", "", caHelp)
	set.StringVar(&f.token, "token", "", "its token, or @ and the path of a file with it; CALLBACK_WEB_DEBUG_TOKEN by default, which other users of the machine do not see")
	if len(args) == 0 || strings.HasPrefix(args[0], "-") {
		if err := parseFlags(set, args); err != nil {
			return err
		}
		return errors.New("dead-letters: want list, redrive or drop")
	}
	if err := parseFlags(set, args[1:]); err != nil {
		return err
	}
	if err := f.readToken(); err != nil {
		return err
	}
	switch args[0] {
	case "list":
		return f.list(ctx, out)
	case "drop":
		if !f.all && !f.dryRun && f.reason == "" && f.sender == "" && f.since == "" {
			return errors.New("drop without a filter needs --all")
		}
		return f.change(ctx, "drop", out)
	case "redrive":
		return f.change(ctx, "redrive", out)
	}
	return fmt.Errorf("dead-letters: there is no %q; want list, redrive or drop", args[0])
}

// readToken finds the token as the service does.
func (f *deadLetterFlags) readToken() error {
	log := slog.New(slog.DiscardHandler)
	value := cmp.Or(f.token, os.Getenv("CALLBACK_WEB_DEBUG_TOKEN"))
	return watchSecret(reload.New(log), log, "--token", value, func(token string) error {
		f.token = token
		return nil
	})
}

func (f *deadLetterFlags) list(ctx context.Context, out io.Writer) error {
	values := url.Values{"limit": {strconv.Itoa(f.limit)}}
	for name, value := range map[string]string{"reason": f.reason, "sender": f.sender, "since": f.since, "after": f.after} {
		if value != "" {
			values.Set(name, value)
		}
	}
	answer, err := f.ask(ctx, http.MethodGet, "/admin/dead-letters?"+values.Encode(), nil)
	if err != nil || f.json {
		return printed(out, answer, err)
	}
	var page struct {
		DeadLetters []callback.DeadLetter `json:"dead_letters"`
		Next        string                `json:"next"`
	}
	if err := json.Unmarshal(answer, &page); err != nil {
		return fmt.Errorf("the answer of %s: %w", f.address, err)
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "SENDER\tOBJECT\tREASON\tATTEMPTS\tFAILED\tCALLBACK\tDETAIL")
	for _, l := range page.DeadLetters {
		fmt.Fprintf(table, "%s\t%d\t%s\t%d\t%s\t%s\t%.80q\n", l.Sender, l.ObjectID, l.Reason, l.Attempts, l.FailedAt.Format(time.RFC3339), l.CallbackID, l.Detail)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if page.Next != "" {
		fmt.Fprintf(out, "there are more: --after=%s\n", page.Next)
	}
	return nil
}

func (f *deadLetterFlags) change(ctx context.Context, what string, out io.Writer) error {
	body, err := json.Marshal(map[string]any{
		"reason": f.reason, "sender": f.sender, "since": f.since, "limit": f.limit, "rate": f.rate, "dry_run": f.dryRun,
	})
	if err != nil {
		return err
	}
	answer, err := f.ask(ctx, http.MethodPost, "/admin/dead-letters/"+what, body)
	if err != nil || f.json {
		return printed(out, answer, err)
	}
	var done struct{ Matched, Done int }
	if err := json.Unmarshal(answer, &done); err != nil {
		return fmt.Errorf("the answer of %s: %w", f.address, err)
	}
	_, err = fmt.Fprintf(out, "%d matched, %d done\n", done.Matched, done.Done)
	return err
}

func printed(out io.Writer, answer []byte, err error) error {
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s\n", answer)
	return err
}

// ask returns the body of a 200; any other answer is an error with what the service says of it.
func (f *deadLetterFlags) ask(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	base := operatorURL(f.address)
	client, err := operatorClient(base, f.ca)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, method, base+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("--address: %w", err)
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if f.token != "" {
		r.Header.Set("Authorization", "Bearer "+f.token)
	}
	response, err := client.Do(r)
	if err != nil {
		return nil, noAnswer(base, err)
	}
	defer func() { _ = response.Body.Close() }()
	answer, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode == http.StatusOK {
		return answer, err
	}
	var p web.Problem
	if json.Unmarshal(answer, &p) != nil || p.Detail == "" {
		return nil, fmt.Errorf("%s answered %s", base, response.Status)
	}
	return nil, fmt.Errorf("%s answered %d %s: %s", base, p.Status, p.Code, p.Detail)
}
