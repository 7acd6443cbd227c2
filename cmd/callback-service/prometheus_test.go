//go:build integration

package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// grafanaDashboard is the part of deploy/grafana/callback-service.json that Prometheus is asked.
type grafanaDashboard struct {
	Panels []struct {
		Title   string
		Type    string
		Targets []struct{ Expr string }
	}
}

// TestPrometheus has a real Prometheus scrape the real service: each query of the Grafana dashboard finds something, and every alert can be
// asked and does not fire.
func TestPrometheus(t *testing.T) {
	source, dir := newSource(t), t.TempDir()
	s := start(t, dir, "--source-url="+source.URL, "--object-ttl=1s", "--web-debug-token=s3cret")
	rules, err := filepath.Abs(filepath.Join("..", "..", "deploy", "prometheus", "alerts.yaml"))
	require.NoError(t, err)
	config := filepath.Join(dir, "prometheus.yaml")
	require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, `
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [%q]
scrape_configs: [{job_name: callback-service, authorization: {credentials: s3cret}, static_configs: [{targets: [%q]}]}]
`, rules, strings.TrimPrefix(s.operator, "http://")), 0o600))
	address := freeAddress(t)
	tool(t, "http://"+address+"/-/ready", "prometheus", "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "tsdb"), "--web.listen-address="+address)
	asked := func(expression string) (found int, err error) {
		expression = strings.NewReplacer("$__rate_interval", "1m", "$instance", ".*").Replace(expression)
		response, err := client.Get("http://" + address + "/api/v1/query?query=" + url.QueryEscape(expression))
		if err != nil {
			return 0, err
		}
		defer response.Body.Close()
		var answer struct {
			Error string
			Data  struct {
				Result []struct{ Value [2]any }
			}
		}
		if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
			return 0, err
		}
		if response.StatusCode != http.StatusOK {
			return 0, fmt.Errorf("%s: %s", expression, answer.Error)
		}
		for _, series := range answer.Data.Result {
			if series.Value[1] != "NaN" {
				found++
			}
		}
		return found, nil
	}
	text, err := os.ReadFile(filepath.Join("..", "..", "deploy", "grafana", "callback-service.json"))
	require.NoError(t, err)
	var dashboard grafanaDashboard
	require.NoError(t, json.Unmarshal(text, &dashboard))
	queries, next := 0, int64(0)
	for _, panel := range dashboard.Panels {
		if panel.Type == "row" {
			continue
		}
		require.NotEmpty(t, panel.Targets, panel.Title)
		for _, target := range panel.Targets {
			queries++
			eventually(t, panel.Title+": "+target.Expr, func() bool {
				next++
				s.mustPost(next) // there are latencies only while there is traffic
				found, err := asked(target.Expr)
				require.NoError(t, err, panel.Title)
				return found > 0
			})
		}
	}
	require.Greater(t, queries, 50)

	var rulesOf struct {
		Data struct {
			Groups []struct {
				Rules []struct{ Name, Health, State, LastError string }
			}
		}
	}
	eventually(t, "every alert was asked", func() bool {
		rulesOf.Data.Groups = nil
		if get("http://"+address+"/api/v1/rules", &rulesOf) != http.StatusOK || len(rulesOf.Data.Groups) == 0 {
			return false
		}
		for _, rule := range rulesOf.Data.Groups[0].Rules {
			require.NotEqual(t, "err", rule.Health, "%s: %s", rule.Name, rule.LastError)
			require.NotEqual(t, "firing", rule.State, rule.Name)
			if rule.Health != "ok" {
				return false
			}
		}
		return true
	})
	require.NoError(t, s.stop())
}
