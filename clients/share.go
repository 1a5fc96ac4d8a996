package clients

import (
	"cmp"
	"hash/maphash"
	"maps"
	"slices"
	"strings"
)

// leastOfAKind is how many workers of each language and model an edge keeps, so
// that one of them may fail.
const leastOfAKind = 8

// share returns the workers that this edge keeps connections to and checks: all,
// or when there are more than most, as many of each kind as is their part. Which
// these are is a matter of rank, which every edge's seed makes another: each
// worker has about as many edges, and one that comes or goes moves no other.
func share(all []Announcement, most int, seed maphash.Seed) []Announcement {
	if most <= 0 || len(all) <= most {
		return all
	}
	kinds := map[string][]Announcement{}
	for _, a := range all {
		k := kind(a)
		kinds[k] = append(kinds[k], a)
	}
	var mine []Announcement
	for _, k := range slices.Sorted(maps.Keys(kinds)) {
		group := kinds[k]
		slices.SortFunc(group, func(a, b Announcement) int {
			return cmp.Compare(maphash.String(seed, b.Name), maphash.String(seed, a.Name))
		})
		n := max(most*len(group)/len(all), leastOfAKind)
		mine = append(mine, group[:min(n, len(group))]...)
	}
	return mine
}

// kind is what sessions choose workers by.
func kind(a Announcement) string {
	return strings.Join(slices.Sorted(slices.Values(a.Capabilities.GetLanguages())), " ") + "|" +
		strings.Join(slices.Sorted(slices.Values(a.ResidentModels)), " ")
}
