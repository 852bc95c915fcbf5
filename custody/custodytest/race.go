//go:build race

package custodytest

// Race tells campaigns that the race detector makes them ten times slower.
const Race = true
