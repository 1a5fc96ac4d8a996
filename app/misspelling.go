package app

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/agnivade/levenshtein"
)

// misspellings points out variables that are not ours but nearly.
func misspellings(environ map[string]string) []Problem {
	ours := map[string]bool{}
	for _, v := range new(Config).variables() {
		ours[v.name] = true
	}
	var found []Problem
	for _, name := range slices.Sorted(maps.Keys(environ)) {
		if ours[name] || strings.HasPrefix(name, "OTEL_") {
			continue
		}
		for _, v := range slices.Sorted(maps.Keys(ours)) {
			if nearly(name, v) {
				found = append(found, Problem{name, fmt.Sprintf("it is not a variable of voxedge, but much like %s", v),
					fmt.Sprintf("Rename it to %s if that is what is meant", v)})
				break
			}
		}
	}
	return found
}

// nearly leaves short names alone: half of all short words are alike.
func nearly(name, ours string) bool {
	if len(ours) < 7 {
		return false
	}
	a, b := strings.ToUpper(name), strings.ToUpper(ours)
	if strings.ReplaceAll(a, "-", "_") == b || strings.ReplaceAll(a, "_", "") == strings.ReplaceAll(b, "_", "") {
		return true
	}
	return levenshtein.ComputeDistance(a, b) <= 2
}
