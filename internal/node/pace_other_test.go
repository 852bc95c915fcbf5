//go:build !linux

package node

import "time"

// Other systems do not say what a thread has used, nor what other guests have taken: the
// clock does for the one, and the other is nothing.

var begun = time.Now()

func threadTime() time.Duration { return time.Since(begun) }

func stolenTime(int) time.Duration { return 0 }
