package ledger

// IndexBytes is about how many bytes the index takes on disk, once what is in
// memory only has been flushed.
func (l *Ledger) IndexBytes() (n uint64, err error) {
	if err := l.s.db.Flush(); err != nil {
		return 0, err
	}
	for _, space := range []byte{keyRow, keyChunk} {
		size, err := l.s.db.EstimateDiskUsage([]byte{space}, []byte{space + 1})
		if err != nil {
			return 0, err
		}
		n += size
	}
	return n, nil
}
