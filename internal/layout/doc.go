// Package layout holds the test that keeps the arrows between packages running
// one way. The layout is the architecture: docs/architecture.md.
package layout
