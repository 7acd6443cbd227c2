package internal_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

// composeFile is what the test looks at in docker-compose.yml; .ci/compose-check has Compose's own opinion of the rest.
type composeFile struct {
	Services map[string]struct {
		Build *struct {
			Args map[string]string `yaml:"args"`
		} `yaml:"build"`
		Healthcheck struct {
			Test []string `yaml:"test"`
		} `yaml:"healthcheck"`
		Ports   []string `yaml:"ports"`
		Volumes []string `yaml:"volumes"`
	} `yaml:"services"`
}

func TestComposeFile(t *testing.T) {
	text, err := os.ReadFile("../docker-compose.yml")
	require.NoError(t, err)
	var file composeFile
	require.NoError(t, yaml.Unmarshal(text, &file))
	require.NotEmpty(t, file.Services)
	for name, s := range file.Services {
		if s.Build != nil {
			require.Equal(t, "${CALLBACK_VERSION:-docker}", s.Build.Args["VERSION"], "%s is built without the version", name)
		}
		if test := s.Healthcheck.Test; slices.ContainsFunc(test, func(word string) bool { return strings.Contains(word, "pg_isready") }) {
			require.Contains(t, test, "-h", "%s: the socket is there before the database is", name)
		}
		for _, port := range s.Ports {
			require.True(t, port == "9090:9090" || strings.HasPrefix(port, "127.0.0.1:"), "%s: port %s is open to all", name, port)
		}
		for _, volume := range s.Volumes {
			if host, _, _ := strings.Cut(volume, ":"); strings.HasPrefix(host, "./") {
				_, err := os.Stat(filepath.Join("..", host))
				require.NoError(t, err, name)
			}
		}
	}
}
