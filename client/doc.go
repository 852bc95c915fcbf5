// Package client is what a party, a customer or an auditor needs to use a
// ledger without trusting it: it submits statements and checks their receipts,
// judges a unit by its URI, and replays a whole log. It trusts only its trust
// folder. It writes no files: what it must remember stands behind Memory, and
// an audit's state behind custody.State.
package client
