package procs_test

import (
	"runtime"
	"testing"

	"fabtrail.dev/fabtrail/internal/procs"
)

func TestSpare(t *testing.T) {
	there := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(there)
	t.Setenv("GOMAXPROCS", "7")
	procs.Spare(2)
	if got := runtime.GOMAXPROCS(0); got != there {
		t.Errorf("%d processors although the user has set how many", got)
	}
	t.Setenv("GOMAXPROCS", "")
	procs.Spare(2)
	if got := runtime.GOMAXPROCS(0); got != there+2 || procs.Count() != there {
		t.Errorf("the runtime has %d, of which there are %d; want %d and %d", got, procs.Count(), there+2, there)
	}
}
