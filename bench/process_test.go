package bench

import "testing"

// A port that was found may be found again as soon as nobody listens on it.
func TestNoTwoFreePortsAreTheSame(t *testing.T) {
	ports, err := freePorts(900)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[int]bool{}
	for _, port := range ports {
		if port == 0 || seen[port] {
			t.Fatalf("port %d comes twice", port)
		}
		seen[port] = true
	}
}
