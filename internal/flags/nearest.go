package flags

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
)

// mostMeant is how many suggestions still help.
const mostMeant = 3

// Stray is a variable that has the program's prefix and is no flag of it.
type Stray struct {
	Name  string
	Meant []string // the variables that it looks like
}

func (s Stray) String() string {
	return fmt.Sprintf("%s is set, but there is no such setting%s", s.Name, question(s.Meant))
}

// Strays returns the variables of the environment that begin with the prefix and are no flag. Those
// that Kubernetes sets for each Service of a namespace are not counted: a Service whose name begins
// like the prefix is likely, and nobody typed them.
func Strays(prefix string, all []Flag) (strays []Stray) {
	for _, variable := range os.Environ() {
		name, value, _ := strings.Cut(variable, "=")
		rest, ours := strings.CutPrefix(name, prefix+"_")
		word := bare(rest)
		if _, known := find(all, "--"+word); !ours || known || isServiceLink(rest, value) {
			continue
		}
		s := Stray{Name: name}
		for _, near := range nearest(word, words(all)) {
			f, _ := find(all, "--"+near)
			s.Meant = append(s.Meant, f.Variable)
		}
		strays = append(strays, s)
	}
	slices.SortFunc(strays, func(a, b Stray) int { return strings.Compare(a.Name, b.Name) })
	return strays
}

// See https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables.
var (
	serviceLink = regexp.MustCompile(`^(.*_)?(SERVICE_HOST|SERVICE_PORT(_.*)?|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$`)
	servicePort = regexp.MustCompile(`^(.*_)?PORT$`) // its value tells it from what a person would set: tcp://10.0.0.1:9090
)

func isServiceLink(name, value string) bool {
	return serviceLink.MatchString(name) || servicePort.MatchString(name) && strings.Contains(value, "://")
}

// DidYouMean is the end of a sentence about a word that is not among known; empty when it is near
// to none of them. The prefix goes before each suggestion.
func DidYouMean(word string, known []string, prefix string) string {
	near := nearest(word, known)
	for i := range near {
		near[i] = prefix + near[i]
	}
	return question(near)
}

func question(meant []string) string {
	if len(meant) == 0 {
		return ""
	}
	return ": did you mean " + strings.Join(meant, " or ") + "?"
}

// nearest returns those of known that word was probably meant to be: the one with the fewest typing
// errors, or else those that begin or end with it.
func nearest(word string, known []string) (near []string) {
	best, fewest := "", 1+min(3, max(1, len(word)/4))
	for _, k := range known {
		if d := distance(word, k); d < fewest {
			best, fewest = k, d
		}
		if word != "" && (strings.HasSuffix(k, "-"+word) || strings.HasPrefix(k, word+"-")) {
			near = append(near, k)
		}
	}
	switch {
	case best != "":
		return []string{best}
	case len(near) > mostMeant:
		return nil
	}
	return near
}

// bare is the name of a flag or a variable as words are compared: object-ttl.
func bare(name string) string {
	return strings.ToLower(strings.ReplaceAll(strings.TrimLeft(name, "-"), "_", "-"))
}

func words(all []Flag) []string {
	words := make([]string, len(all))
	for i, f := range all {
		words[i] = bare(f.Name)
	}
	return words
}

// distance counts the letters to change, to insert, to leave out and to swap with their neighbour
// that make b of a.
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
