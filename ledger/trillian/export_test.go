package trillian

import "context"

// DropLease closes the connection that holds the lock, as a network that fails.
func (e *Engine) DropLease() error {
	e.store.mu.Lock()
	defer e.store.mu.Unlock()
	return e.store.lease.Close(context.Background())
}
