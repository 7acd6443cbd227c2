package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestMemoryFollowsFromTheFlags: each part grows with the flags that bound it and with no others.
func TestMemoryFollowsFromTheFlags(t *testing.T) {
	parts := func(args ...string) map[string]int64 {
		cfg, _, err := parse(args)
		require.NoError(t, err)
		m := map[string]int64{"sum": memoryNeeded(&cfg)}
		for _, p := range memoryParts(&cfg) {
			require.Positive(t, p.bytes, p.name)
			m[p.name] = p.bytes
		}
		return m
	}
	usual := parts()
	var sum int64
	for name, bytes := range usual {
		if name != "sum" {
			sum += bytes
		}
	}
	require.Equal(t, sum+sum/4, usual["sum"])
	require.Less(t, usual["sum"], int64(2<<30), "the defaults fit into 2 GiB")
	for flags, grown := range map[string][]string{
		"--web-max-connections=20000": {"connections"},
		"--web-max-body=100000000":    {"bodies"},
		"--web-max-in-flight=10000":   {"appends"},
		"--web-max-ids=100000":        {"appends", "readers"},
		"--pool-window=1000000":       {"window"},
		"--pool-workers=2000":         {"fetches"},
		"--source-max-body=1000000":   {"fetches", "batch", "readers"},
	} {
		got := parts(strings.Fields(flags)...)
		want := append([]string{"sum"}, grown...)
		var more []string
		for name := range usual {
			if got[name] > usual[name] {
				more = append(more, name)
			}
		}
		require.ElementsMatch(t, want, more, flags)
	}
	huge := parts("--source-max-body=1073741824", "--web-max-body=1073741824", "--web-max-ids=16777216", "--web-max-in-flight=1048576",
		"--web-max-connections=1048576", "--pool-workers=16384", "--pool-window=16777216")
	require.Greater(t, huge["sum"], int64(1<<40), "no sum is too large for an int64")
	_, _, err := parse([]string{"--web-max-body=1073741825"})
	require.ErrorContains(t, err, "--web-max-body 1073741825: want at most 1073741824")
}

// TestMemoryLimit: what the environment says counts, and check tells which.
func TestMemoryLimit(t *testing.T) {
	dir, source := t.TempDir(), newSource(t)
	_, out, _ := checked(t, dir, "--source-url="+source.URL)
	require.Regexp(t, `ok +memory +at most about \d+ MiB, by the flags`, out)
	t.Setenv("GOMEMLIMIT", "300MiB")
	_, out, _ = checked(t, dir, "--source-url="+source.URL)
	require.Regexp(t, `ok +memory +at most about 300 MiB, by GOMEMLIMIT`, out)
	s := start(t, dir, "--log-level=debug")
	s.eventually("the log tells", func() bool { return strings.Contains(s.log.String(), "msg=memory limit_mib=300 from=GOMEMLIMIT") })
}
