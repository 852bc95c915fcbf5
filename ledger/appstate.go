package ledger

// AppState reads the application's value of key as the last group commit left it,
// nil when there is none. What is in flight is not seen: only App.Decide sees that.
func (l *Ledger) AppState(key string) ([]byte, error) { return l.s.get(stateKey(key)) }
