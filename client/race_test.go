//go:build race

package client

// raceFactor divides the number of random tries: curve arithmetic is some twenty
// times slower under the race detector.
const raceFactor = 6
