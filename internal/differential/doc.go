// Package differential holds what this module checks against what others wrote
// from the same specification: where both have an answer, it must be the same one.
// Strict JSON has its second reader in package custody.
package differential
