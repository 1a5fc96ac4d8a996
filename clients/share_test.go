package clients

import (
	"fmt"
	"hash/maphash"
	"slices"
	"testing"

	"github.com/voxedge/voxedge/proto"
)

func announcements(n int, language string) (all []Announcement) {
	for i := range n {
		all = append(all, Announcement{Name: fmt.Sprint(language, i), Capabilities: &proto.Capabilities{Languages: []string{language}}})
	}
	return all
}

func namesOf(all []Announcement) (names []string) {
	for _, a := range all {
		names = append(names, a.Name)
	}
	slices.Sort(names)
	return names
}

func TestAnEdgeKeepsItsShare(t *testing.T) {
	all := slices.Concat(announcements(1000, "en"), announcements(20, "de"), announcements(3, "is"))
	seed := maphash.MakeSeed()
	mine := share(slices.Clone(all), 100, seed)
	count := map[string]int{}
	for _, a := range mine {
		count[a.Capabilities.GetLanguages()[0]]++
	}
	if count["en"] < 90 || count["en"] > 100 || count["de"] != leastOfAKind || count["is"] != 3 {
		t.Errorf("of each kind: %v", count)
	}
	slices.Reverse(all)
	if !slices.Equal(namesOf(share(slices.Clone(all), 100, seed)), namesOf(mine)) {
		t.Error("the share depends on the order of the announcements")
	}
	// One that goes is replaced, and moves no other.
	gone := mine[0].Name
	fewer := slices.DeleteFunc(slices.Clone(all), func(a Announcement) bool { return a.Name == gone })
	kept := 0
	for _, name := range namesOf(share(fewer, 100, seed)) {
		if slices.Contains(namesOf(mine), name) {
			kept++
		}
	}
	if kept < len(mine)-2 {
		t.Errorf("of %d workers %d are kept", len(mine), kept)
	}
	if got := share(all, len(all), seed); len(got) != len(all) {
		t.Errorf("of as many as are wanted %d are kept", len(got))
	}
}

// Over many edges each worker has about as many: none is forgotten, none is
// everybody's.
func TestSharesAreEven(t *testing.T) {
	const workers, edges, most = 500, 400, 50
	all := announcements(workers, "en")
	count := map[string]int{}
	for range edges {
		for _, a := range share(slices.Clone(all), most, maphash.MakeSeed()) {
			count[a.Name]++
		}
	}
	const mean = edges * most / workers
	for _, a := range all {
		if n := count[a.Name]; n < mean/3 || n > mean*2 {
			t.Errorf("%s is known to %d edges, where %d are the mean", a.Name, n, mean)
		}
	}
}
