package ledger

import "sync"

// AppState reads the application's value of key as the last group commit left it,
// nil when there is none. What is in flight is not seen: only App.Decide sees that.
// The bytes are shared and must not be changed.
func (l *Ledger) AppState(key string) ([]byte, error) {
	if v, ok := l.s.rows.get(key); ok {
		return v, nil
	}
	return l.s.get(stateKey(key))
}

// rowCache keeps the application's rows that were read or written last, absent
// ones (nil) too. It is exact: only committer and builder fill it, with what the one reads in
// log order and with what each commit writes, so a reader finds the row as of some
// commit that the database shows, and nobody can put an older one back.
//
// There are two generations of half the size each. What is used in the older one
// moves to the younger; when that is full, the older is dropped.
type rowCache struct {
	mu       sync.RWMutex
	half     int64 // bytes of one generation; 0 keeps nothing
	size     int64 // bytes of cur
	old, cur map[string][]byte
}

// rowOverhead is about what the maps need for one row beside key and value, in
// bytes.
const rowOverhead = 96

func newRowCache(bytes int64) *rowCache {
	return &rowCache{half: bytes / 2, cur: map[string][]byte{}}
}

// get returns a row; ok is false when it is not known here.
func (c *rowCache) get(key string) (v []byte, ok bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if v, ok = c.cur[key]; !ok {
		v, ok = c.old[key]
	}
	return v, ok
}

// use is get for the committer, who keeps alive what it uses.
func (c *rowCache) use(key string) (v []byte, ok bool) {
	c.mu.RLock()
	v, ok = c.cur[key]
	stale := false
	if !ok {
		v, ok = c.old[key]
		stale = ok
	}
	c.mu.RUnlock()
	if stale {
		c.put(key, v)
	}
	return v, ok
}

// put sets a row that the database shows; only the committer calls it, of no key that a
// commit writes which is being built.
func (c *rowCache) put(key string, v []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.set(key, v)
}

// putAll sets all rows of a commit at once.
func (c *rowCache) putAll(rows map[string][]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, v := range rows {
		c.set(k, v)
	}
}

func (c *rowCache) set(key string, v []byte) {
	if c.half <= 0 {
		return
	}
	if was, ok := c.cur[key]; ok {
		c.size += int64(len(v) - len(was))
	} else {
		c.size += int64(len(key) + len(v) + rowOverhead)
	}
	c.cur[key] = v
	if c.size > c.half {
		c.old, c.cur, c.size = c.cur, map[string][]byte{}, 0
	}
}
