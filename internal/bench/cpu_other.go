//go:build !unix

package bench

import "time"

// cpu is not known on this system: figures of processor time are zero.
func cpu() time.Duration { return 0 }
