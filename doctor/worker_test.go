package doctor

import (
	"fmt"
	"strings"
	"testing"
)

// The worker that is well may be the last of many.
func TestOneOfManyWorkersIsWell(t *testing.T) {
	var looks []Step
	for i := range 30 {
		looks = append(looks, Step{Name: fmt.Sprint("worker ", i), Result: Failed, Finding: &Finding{Cause: WorkerClosed.ID}})
	}
	steps := shown(looks, 250)
	if last := steps[len(steps)-1]; len(steps) != maxShown+1 || last.Result != Skipped || !strings.Contains(last.Measured, "250 are announced, 30 were looked at, and 0 are well") {
		t.Errorf("none is well: %d steps, the last is %+v", len(steps), last)
	}
	looks = append(looks, ok("worker 30", "well"))
	if last := shown(looks, 31)[maxShown]; last.Result != OK || !strings.Contains(last.Measured, "and 1 are well") {
		t.Errorf("one is well: %+v", last)
	}
}
