// Package ledger is an append-only Merkle log: it orders statements, keeps them,
// commits to them, proves what it says, and never signs a fork. It knows nothing
// of what statements mean: an App decides what is admitted, under which topics,
// over a State that is a fold of the log.
//
// # What is where
//
// Dir/truth is one Pebble database, the only thing that is read while the ledger
// runs: cargo, leaves, full tiles, statement IDs, manifests, the application's
// state, index rows, published notes (store.go has the key spaces). Dir/journal
// has append-only segments (record.go has the bytes): the newest entries once
// more, and every checkpoint that was signed or published. The journal's newest
// checkpoint is the high-water mark. Losing either store is noticed at the next
// start by comparing the two; what one has lost of the newest entries is made
// good from the other, anything else is refused with *NoSign.
//
// # One append
//
//	Append      checks the envelope, looks the ID up, queues            caller
//	admit       finds repeats, asks App, draws the salt                 committer
//	build       leaves, cargo, IDs, state, tiles, index: one batch      builder
//	persist     batch synced in Pebble beside leaves in the Sequencer   sealer
//	verify      re-reads, re-hashes by another path, old -> new         sealer
//	sign        signs; checkpoint synced in the journal                 sealer
//	cosign      asks the Cosigner; the note synced in both stores       publisher
//	answer      makes the receipt and verifies it                       caller
//
// Each arrow is durable before the next begins, and nothing leaves the process
// before its line. While a commit is synced the next is built and a third one decided, over
// what the ones before write; while an engine
// that is a cluster integrates what is to be signed, it is given the next; while
// witnesses are asked, commits go on. After an error whose outcome is unknown the ledger
// stops for good (ErrFailed) and is opened anew: recovery takes the same path
// into the database as a commit.
//
// # Index commitments
//
// Every signed size ends with an index commitment over all entries before it.
// It is due when nobody who waits could share a later one (nothing coming, nothing
// being built or sealed), and under load every PublishEvery. A commit begins when nobody
// else is on his way, or a third of those who are have come, or 50 ms after the one
// before. Commits without an index commitment keep
// their topics in a row, for a crash. The index of an older publication is read
// from newer rows by cutting lists off at the entries that it covers, so there
// are no undo records.
//
// # Receipts
//
// A receipt is not stored: it is the inclusion proof of the entry in the first
// published checkpoint that covers it, under the note that was first published
// at that size. Publications only grow, so this never changes; a later note at
// the same size (an idle log is cosigned again) leaves it alone.
//
// # Replay
//
// Entries that the engine has and the replica lacks are decided again by App,
// with Submission.Replay set, and must come out in the same class, with the index
// root that the next commitment says; else Open refuses. App must be
// deterministic for that.
package ledger
