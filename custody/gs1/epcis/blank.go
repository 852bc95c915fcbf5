package epcis

import "fabtrail.dev/fabtrail/custody"

// Blank is the Resolver of a ledger without units, in which the given parties are
// enrolled. It serves to see what a document would become.
type Blank []string

var _ Resolver = Blank(nil)

// Enrolled reports whether the party is one of those given.
func (b Blank) Enrolled(party string) (bool, error) {
	for _, p := range b {
		if p == party {
			return true, nil
		}
	}
	return false, nil
}

// Unit knows none.
func (Blank) Unit(custody.UnitRef) (*custody.Unit, error) { return nil, nil }

// Load knows none.
func (Blank) Load(string) (custody.UnitRef, bool, error) { return custody.UnitRef{}, false, nil }

// Members knows none.
func (Blank) Members(custody.UnitRef) ([]custody.UnitRef, error) { return nil, nil }

// Parts knows none.
func (Blank) Parts(string) ([]string, error) { return nil, nil }

// Recorded knows none.
func (Blank) Recorded(string, string) ([]Recorded, error) { return nil, nil }
