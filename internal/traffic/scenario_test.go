package traffic

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestScenario(t *testing.T) {
	base := Phase{Rate: 7, Shape: Shape{IDsMax: 200, IDSpace: 100}}
	phases, err := ParseScenario([]byte(`
phases:
  - {for: 10s, source: {fail_rate: 0.5}}
  - {for: 5s, rate: 2.5, ids_max: 3, id_space: 4, unique: true, source: {fail_rate: 0, hang_rate: 0.5}}
  - {for: 1m, concurrency: 8}
`), base, Faults{MissingRate: 0.5, LatencyMax: Duration(time.Second)})
	if err != nil || len(phases) != 3 {
		t.Fatalf("%v %v", phases, err)
	}
	p, q, r := phases[0], phases[1], phases[2]
	if p.For != 10*time.Second || p.Rate != 7 || p.Shape != base.Shape || p.Faults.FailRate != 0.5 || p.Faults.MissingRate != 0.5 {
		t.Errorf("first %+v, faults %+v", p, p.Faults)
	}
	if q.Rate != 2.5 || q.Shape != (Shape{IDsMax: 3, IDSpace: 4, Unique: true}) || q.Faults.FailRate != 0 || q.Faults.HangRate != 0.5 || q.Faults.MissingRate != 0.5 {
		t.Errorf("second %+v, faults %+v", q, q.Faults)
	}
	if r.Concurrency != 8 || r.Rate != 7 || r.Faults != nil || r.Shape != base.Shape {
		t.Errorf("third %+v", r)
	}

	base.For = 12 * time.Second
	if phases, err = ParseScenario([]byte("phases: [{for: 10s}, {for: 5s}, {for: 1m}]"), base, Faults{}); err != nil || len(phases) != 2 || phases[1].For != 2*time.Second {
		t.Errorf("cut to 12s: %+v %v", phases, err)
	}
}

func TestScenarioMistakes(t *testing.T) {
	for _, doc := range []string{
		"phases: [{for: 3s, source: {fail_rate: 1}}]", // with the half that is missing anyway
		"", "phases: []", "phases: [{rate: 3}]", "phases: [{for: 3}]", "phases: [{for: 3s, rat: 3}]", "phases: [{for: 3s, rate: -3}]",
		"phases: [{for: 3s, source: {fail_rate: 3}}]", "phases: [{for: 3s, source: {fail: 1}}]", "phase: []", "{", "- for: 3s",
	} {
		if phases, err := ParseScenario([]byte(doc), Phase{Shape: Shape{IDSpace: 1}}, Faults{MissingRate: 0.5}); err == nil {
			t.Errorf("%q was taken for %+v", doc, phases)
		}
	}
}

func TestShippedScenarios(t *testing.T) {
	files, err := filepath.Glob("../../deploy/scenarios/*.yaml")
	if err != nil || len(files) < 4 {
		t.Fatalf("found %v, %v", files, err)
	}
	for _, file := range files {
		doc, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		base := Phase{Rate: 1, Shape: Shape{IDsMax: 200, IDSpace: 100}}
		if _, err := ParseScenario(doc, base, Faults{LatencyMin: Duration(300 * time.Millisecond), LatencyMax: Duration(4 * time.Second)}); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}
