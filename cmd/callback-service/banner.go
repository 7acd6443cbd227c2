package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"strings"

	"golang.org/x/term"

	"callback-service/internal/middleware"
)

// terminal returns out when it is a terminal, where a person may be reading, else nil.
func terminal(out io.Writer) io.Writer {
	if f, ok := out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return f
	}
	return nil
}

// banner tells a person where to look, and what to paste. public and operator are the URLs of the listeners. Where credentials are
// asked for there is nothing that works when pasted.
func banner(public, operator string, credentials bool) string {
	text := fmt.Sprintf("\n  dashboard   %s/\n  docs        %s/docs\n", operator, public)
	if !credentials {
		curl := "curl -i"
		if strings.HasPrefix(public, "https:") {
			curl = "curl -ik" // the certificate need not name this machine
		}
		text += fmt.Sprintf("  try it      %s %s/callback -H 'Content-Type: application/json' -d '{\"object_ids\":[1,2,3]}'\n", curl, public)
	}
	return text + "  stop        Ctrl-C\n\n"
}

// browsable is an address that a browser on this machine can open: listeners on all interfaces have none of their own.
func browsable(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil || !net.ParseIP(host).IsUnspecified() && !middleware.Loopback(host) {
		return address
	}
	return net.JoinHostPort("localhost", port)
}
