package traffic

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"go.yaml.in/yaml/v3"
)

// scenarioFile is a scenario as it stands in its file; what a phase does not name is as in base.
type scenarioFile struct {
	// Description is for the reader.
	Description string          `json:"description"`
	Phases      []scenarioPhase `json:"phases"`
}

type scenarioPhase struct {
	For         Duration        `json:"for"`
	Rate        *float64        `json:"rate"`
	Concurrency *int            `json:"concurrency"`
	IDsMax      *int            `json:"ids_max"`
	IDSpace     *int64          `json:"id_space"`
	Unique      *bool           `json:"unique"`
	Source      json.RawMessage `json:"source"`
}

// ParseScenario reads a YAML document: a list of phases, each with `for` and optionally `rate`, `concurrency`, `ids_max`,
// `id_space`, `unique` and `source`, which is a body of PUT /control and, unlike the rest, stays in force until a later
// phase changes it. base fills in the rest of every phase; when it has a length, that cuts the scenario. Unknown names are
// errors.
func ParseScenario(doc []byte, base Phase, faults Faults) ([]Phase, error) {
	file, err := decodeScenario(doc)
	if err != nil {
		return nil, err
	}
	if len(file.Phases) == 0 {
		return nil, errors.New("it has no phases")
	}
	var phases []Phase
	rest := base.For
	for i, fp := range file.Phases {
		p := base
		if p, faults, err = fp.over(p, faults); err != nil {
			return nil, fmt.Errorf("phase %d: %w", i+1, err)
		}
		if base.For > 0 {
			p.For = min(p.For, rest)
			rest -= p.For
		}
		if p.For > 0 {
			phases = append(phases, p)
		}
	}
	return phases, nil
}

// decodeScenario goes through JSON, so that the names and the checks of PUT /control hold here too.
func decodeScenario(doc []byte) (file scenarioFile, err error) {
	var tree any
	if err := yaml.Unmarshal(doc, &tree); err != nil {
		return file, err
	}
	asJSON, err := json.Marshal(tree)
	if err != nil {
		return file, err
	}
	dec := json.NewDecoder(bytes.NewReader(asJSON))
	dec.DisallowUnknownFields()
	return file, dec.Decode(&file)
}

func (fp scenarioPhase) over(p Phase, faults Faults) (Phase, Faults, error) {
	p.For = time.Duration(fp.For)
	if fp.Rate != nil {
		p.Rate = *fp.Rate
	}
	if fp.Concurrency != nil {
		p.Concurrency = *fp.Concurrency
	}
	if fp.IDsMax != nil {
		p.Shape.IDsMax = *fp.IDsMax
	}
	if fp.IDSpace != nil {
		p.Shape.IDSpace = *fp.IDSpace
	}
	if fp.Unique != nil {
		p.Shape.Unique = *fp.Unique
	}
	if fp.Source != nil {
		changed, err := faults.Patch(fp.Source)
		if err != nil {
			return p, faults, fmt.Errorf("source: %w", err)
		}
		faults, p.Faults = changed, &changed
	}
	if p.For <= 0 {
		return p, faults, errors.New("`for` says how long it lasts, such as 20s")
	}
	if p.Rate < 0 || p.Concurrency < 0 || p.Shape.IDsMax < 0 || p.Shape.IDSpace < 1 {
		return p, faults, errors.New("rate, concurrency and ids_max must not be negative, and id_space at least 1")
	}
	return p, faults, nil
}
