package view

// recent keeps the rows that were read or written last, absent ones (nil) too, as the
// database has them. There are two generations of half the size each: what is used in the
// older one moves to the younger, and when that is full, the older one is dropped.
type recent struct {
	most     int // bytes of both
	size     int // of cur
	old, cur map[string][]byte
}

// rowOverhead is about what a map needs for one row beside key and value, in bytes.
const rowOverhead = 96

// get returns a row; ok is false when it is not known here.
func (r *recent) get(key string) (b []byte, ok bool) {
	if b, ok = r.cur[key]; ok {
		return b, true
	}
	if b, ok = r.old[key]; ok {
		r.put(key, b)
	}
	return b, ok
}

func (r *recent) put(key string, b []byte) {
	if was, ok := r.cur[key]; ok {
		r.size += len(b) - len(was)
	} else {
		r.size += len(key) + len(b) + rowOverhead
	}
	if r.cur == nil {
		r.cur = map[string][]byte{}
	}
	r.cur[key] = b
	if r.size > r.most/2 {
		r.old, r.cur, r.size = r.cur, nil, 0
	}
}
