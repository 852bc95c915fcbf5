// Package trillian is the ledger's engine on a Trillian cluster: a
// ledger.Sequencer over the TrillianLog gRPC API, for ledgers whose users outgrow
// one machine.
//
// # What lies where
//
// The tree is a PREORDERED_LOG: the ledger assigns indexes, Trillian keeps the
// leaves and integrates them. A leaf's value is the ledger's 34 bytes, its
// identity hash the leaf's ID (statement ID, or the leaf hash of an index
// commitment), its extra data
//
//	0x01 | token 16 | manifest digest 32, zero if none | cargo
//
// PostgreSQL, which Trillian itself runs on, holds in a schema of its own
// (schema.sql) what Trillian has no place for: which node signs, manifests (up to
// 16 MiB, more than one gRPC message takes), and the published notes, from which
// other nodes follow.
//
// # One signer
//
// A signing engine holds an advisory lock of PostgreSQL, so that a second one is
// told who signs, and has drawn a token that it writes into every leaf. A trigger
// refuses leaves with any other token, in the transaction that would add them: a
// node that lost the lock, be it paused or cut off, adds nothing any more, not
// even the rest of a batch. Without that, half a batch of the former signer
// between the leaves of the new one would be in the log for good.
//
// # Waiting
//
// Add returns once the leaves are committed in PostgreSQL. Head returns once they
// are integrated, too: the ledger signs nothing before Head has confirmed size
// and root.
package trillian
