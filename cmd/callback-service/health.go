package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

const healthAbout = `Usage: callback-service health [flags]

Asks whether the service is ready: exit status 0, or 1 and why not. It is for health checks of containers, where there is no shell.`

// health is a client of /readyz.
func health(ctx context.Context, args []string, out io.Writer) error {
	set := flagSet("health", healthAbout, out)
	address := set.String("address", operatorAddress(), addressHelp+". The public listener answers as well")
	ca := set.String("ca", "", caHelp)
	path := set.String("path", "/readyz", "what is asked for")
	if err := parseFlags(set, args); err != nil {
		return err
	}
	base := operatorURL(*address)
	client, err := operatorClient(base, *ca)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, base+*path, nil)
	if err != nil {
		return fmt.Errorf("--address: %w", err)
	}
	response, err := client.Do(r)
	if err != nil {
		return noAnswer(base, err)
	}
	defer func() { _ = response.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(response.Body, 4096))
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, answer)
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s\n", answer)
	return err
}
