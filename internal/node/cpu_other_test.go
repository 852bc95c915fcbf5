//go:build !unix

package node

import "time"

// processorTime is what this process has used so far: here, the clock's time.
func processorTime() time.Duration { return time.Since(started) }

var started = time.Now()
