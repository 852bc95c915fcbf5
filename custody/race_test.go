//go:build race

package custody_test

// raceEnabled: the race detector makes campaigns ten times slower.
const raceEnabled = true
