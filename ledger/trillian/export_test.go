package trillian

import "context"

// LeaseParam is a setting of PostgreSQL on the connection that holds the lock.
func (e *Engine) LeaseParam(name string) (value string, err error) {
	e.store.mu.Lock()
	defer e.store.mu.Unlock()
	err = e.store.lease.QueryRow(context.Background(), "SELECT current_setting($1)", name).Scan(&value)
	return value, err
}

// DropLease closes the connection that holds the lock, as a network that fails.
func (e *Engine) DropLease() error {
	e.store.mu.Lock()
	defer e.store.mu.Unlock()
	return e.store.lease.Close(context.Background())
}

// Learn has the planner look at the tables.
func (e *Engine) Learn(ctx context.Context) error { return e.store.learn(ctx) }
