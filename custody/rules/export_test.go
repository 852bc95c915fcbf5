package rules

// Chord shows chord to tests.
func Chord(lat1, lon1, lat2, lon2 int32) int64 { return chord(lat1, lon1, lat2, lon2) }

// Due is what has waited long enough at a time.
var Due = due
