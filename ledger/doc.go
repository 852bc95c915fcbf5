// Package ledger is an append-only Merkle log on one machine: it orders
// statements, keeps them, commits to them, and never signs a fork.
package ledger
