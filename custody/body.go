package custody

// NewBody returns a pointer to an empty body of this kind, such as *Pack; nil if
// the kind is unknown.
func (k Kind) NewBody() any {
	i, ok := kindIndex[k]
	if !ok {
		return nil
	}
	return i.newBody()
}
