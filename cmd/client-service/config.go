package main

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"callback-service/internal/flags"
	"callback-service/internal/traffic"
)

// envPrefix makes a flag's variable: --rate is CLIENT_RATE.
const envPrefix = "CLIENT"

// config is the flags; each is also an environment variable with the prefix CLIENT. In a conf tag a comma ends the help.
type config struct {
	flags.Version

	WebAddress     string `conf:"default:0.0.0.0:9010,help:where the simulated object source listens: GET /objects/{id}"`
	ControlAddress string `conf:"default:127.0.0.1:9011,help:where the source is changed while it runs: GET and PUT /control; empty: nowhere. Keep it on loopback"`

	TargetURL     string        `conf:"default:http://localhost:9090/callback,help:where callbacks are posted; receipts and objects are read under /v1 of the same host"`
	TargetHeader  string        `conf:"mask,help:a header for every request to the target; such as Authorization: Bearer and a key"`
	Sign          string        `conf:"help:how requests are signed: standard-webhooks or github or stripe or hmac"`
	SignSecret    string        `conf:"mask,help:the secret to sign with"`
	SignHeader    string        `conf:"default:X-Signature,help:header of the signature of hmac"`
	Idempotency   bool          `conf:"help:give each callback an Idempotency-Key that its repeats have as well"`
	TargetTimeout time.Duration `conf:"default:10s,help:how long one request to the target may take"`
	TargetWait    time.Duration `conf:"default:30s,help:the longest wait for the target to listen; then the traffic begins all the same"`
	Rate          float64       `conf:"default:0.2,help:callbacks a second (open loop: sent when due whatever became of those before). 0: only simulate the source"`
	Concurrency   int           `conf:"default:0,help:closed loop instead: so many senders that each post again when answered"`
	Outstanding   int           `conf:"default:4000,help:callbacks that may be unanswered at a time; keep it below what the service takes at once as its receipts are read meanwhile. Those due wait and are measured from when they were due"`
	RetryFor      time.Duration `conf:"default:1m,help:how long one callback is repeated on 429 or 502-504 or a failed connection"`
	IDsMax        int           `conf:"flag:ids-max,env:IDS_MAX,default:200,help:a callback has 0 to so many random ids"`
	IDSpace       int64         `conf:"flag:id-space,env:ID_SPACE,default:100,help:ids are drawn from 1 to this: a small space means many repeats"`
	Unique        bool          `conf:"help:every id of the run is used once; id-space is ignored"`
	Tag           string        `conf:"help:tag of every callback"`
	Duration      time.Duration `conf:"default:0,help:how long traffic is sent. 0: until Ctrl-C or the end of the scenario"`
	Scenario      string        `conf:"help:a file of phases (see deploy/scenarios) that change rate and source over time"`
	Settle        time.Duration `conf:"default:15s,help:after the traffic: how long to wait without progress before the verdict"`
	TTLWait       time.Duration `conf:"flag:ttl-wait,env:TTL_WAIT,default:45s,help:after all settled: the longest wait for sampled objects to disappear at their time. Not after Ctrl-C"`
	Report        string        `conf:"default:text,help:text or json; json: stdout carries one JSON object and nothing else"`
	Progress      string        `conf:"default:auto,help:auto or lines; auto draws a bar where stderr is a terminal. Lines suit a terminal that other programs write to as well"`
	LatencyMin    time.Duration `conf:"default:300ms,help:the source takes at least so long"`
	LatencyMax    time.Duration `conf:"default:4s,help:and at most so long"`
	LatencyP99    time.Duration `conf:"flag:latency-p99,env:LATENCY_P99,default:0,help:but one request in a hundred longer than this. 0: none"`
	FailRate      float64       `conf:"default:0,help:share of requests (0 to 1) that the source answers with 500"`
	ThrottleRate  float64       `conf:"default:0,help:share answered with 429 and Retry-After"`
	HangRate      float64       `conf:"default:0,help:share never answered"`
	MissingRate   float64       `conf:"default:0,help:share answered with 404"`
	GarbageRate   float64       `conf:"default:0,help:share answered with broken JSON or another id"`
	Online        *float64      `conf:"help:share of objects that are online. Unset: the even ids"`
}

// defaultControlAddress repeats the default of --control-address, which a tag cannot name.
const defaultControlAddress = "127.0.0.1:9011"

const helpHead = `client-service is the other side of callback-service: it simulates the object source, sends callbacks, and
judges whether everything that was acknowledged was honoured.

`

const helpTail = `
EXAMPLES
  client-service                                        a callback every 5 s, as the real sender; Ctrl-C for the report
  client-service --rate 500 --duration 1m               a hard minute with a verdict
  client-service --concurrency 64 --duration 30s        as fast as it goes with 64 senders
  client-service --scenario deploy/scenarios/source-outage.yaml
  client-service --rate 0 --latency-max 1s              only the object source
  client-service --report json 2>/dev/null | jq .lost   for scripts

WHILE IT RUNS
  curl -X PUT -d '{"fail_rate":1}' localhost:9011/control     stage an outage of the source
  curl localhost:9011/control                                 what can be changed
  curl localhost:9011/hits/7                                  how often object 7 was fetched

VERDICT
  For every acknowledged callback (any 2xx) each id must have been fetched by a request that reached the source
  after the POST was sent, and its receipt must be done with every id accounted for. It is judged as soon as its
  receipt is done; receipts are read in bulk while there is traffic, so that they may be gone at the end. They are
  read every second or so: keep them (--receipt-ttl of the service) for ten seconds at least.

  lost        proven: an id that was not fetched although nothing moved for --settle after the traffic; a receipt
              that does not account for every id; or one that is not done, or gone before its time
  not judged  what was not seen in time: the service did not answer, the receipt may have come and gone between two
              looks, a million callbacks waited already, or Ctrl-C stopped the service too. Neither lost nor stored

  Sampled objects must be readable, and gone at their time.
  Exit status 0: pass. 1: fail; something was lost, nothing was acknowledged, or an object did not keep its time.
  2: unsettled; nothing is known to be wrong, but not every callback was judged.
  Ctrl-C still gives the report; a second one ends at once.
`

// parseConfig returns the checked configuration, or the text to print with flags.ErrHelp or
// ErrVersion.
func parseConfig(args []string) (cfg config, info string, err error) {
	cfg.Version = flags.Version{Build: version, Desc: "client-service: object source, traffic and verdict for callback-service"}
	info, err = flags.Parse(envPrefix, &cfg, args)
	switch {
	case errors.Is(err, flags.ErrHelp):
		return cfg, helpHead + info + helpTail, err
	case err != nil:
		return cfg, info, err
	}
	return cfg, "", cfg.check()
}

func (c *config) check() error {
	u, err := url.Parse(c.TargetURL)
	positive := func(r float64) bool { return r >= 0 && !math.IsInf(r, 0) }
	switch {
	case err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "":
		return fmt.Errorf("--target-url must be an http or https URL, not %q", c.TargetURL)
	case !positive(c.Rate):
		return fmt.Errorf("--rate is callbacks a second from 0, not %v", c.Rate)
	case c.Concurrency < 0 || c.Outstanding < 1:
		return errors.New("--concurrency must not be negative, and --outstanding at least 1")
	case c.IDsMax < 0 || c.IDSpace < 1:
		return errors.New("--ids-max must not be negative, and --id-space at least 1")
	case c.Duration < 0 || c.Settle < 0 || c.TTLWait < 0 || c.TargetWait < 0 || c.RetryFor < 0 || c.TargetTimeout <= 0:
		return errors.New("durations must not be negative, and --target-timeout more than 0")
	case c.Report != "text" && c.Report != "json":
		return fmt.Errorf("--report is text or json, not %q", c.Report)
	case c.Progress != "auto" && c.Progress != "lines":
		return fmt.Errorf("--progress is auto or lines, not %q", c.Progress)
	}
	who, err := c.credentials()
	if err != nil {
		return err
	}
	if err := who.Validate(); err != nil {
		return err
	}
	return c.faults().Validate()
}

func (c *config) faults() traffic.Faults {
	return traffic.Faults{
		LatencyMin: traffic.Duration(c.LatencyMin), LatencyMax: traffic.Duration(c.LatencyMax), LatencyP99: traffic.Duration(c.LatencyP99),
		FailRate: c.FailRate, ThrottleRate: c.ThrottleRate, HangRate: c.HangRate, MissingRate: c.MissingRate, GarbageRate: c.GarbageRate,
		Online: c.Online,
	}
}

func (c *config) credentials() (traffic.Credentials, error) {
	who := traffic.Credentials{Sign: c.Sign, Secret: c.SignSecret, SignHeader: c.SignHeader, Keys: c.Idempotency}
	if c.TargetHeader == "" {
		return who, nil
	}
	name, value, ok := strings.Cut(c.TargetHeader, ":")
	if !ok || strings.TrimSpace(name) == "" {
		return who, errors.New("--target-header must be like 'Name: value'")
	}
	who.Header = http.Header{}
	who.Header.Set(strings.TrimSpace(name), strings.TrimSpace(value))
	return who, nil
}

// phases is the traffic: the scenario's, or one phase made of the flags.
func (c *config) phases() ([]traffic.Phase, error) {
	base := traffic.Phase{
		For: c.Duration, Rate: c.Rate, Concurrency: c.Concurrency,
		Shape: traffic.Shape{IDsMax: c.IDsMax, IDSpace: c.IDSpace, Unique: c.Unique},
	}
	if c.Scenario == "" {
		return []traffic.Phase{base}, nil
	}
	doc, err := os.ReadFile(c.Scenario)
	if err != nil {
		return nil, fmt.Errorf("--scenario: %w", err)
	}
	phases, err := traffic.ParseScenario(doc, base, c.faults())
	if err != nil {
		return nil, fmt.Errorf("--scenario %s: %w", c.Scenario, err)
	}
	return phases, nil
}
